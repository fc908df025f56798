#include "kernels/cpu/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace mobalab::kernels::cpu {

int resolve_threads(int threads) {
    return threads > 0 ? threads : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

void parallel_for_workers(std::int64_t count, int threads, const std::function<Task()>& make_worker) {
    const std::int64_t workers = std::min<std::int64_t>(resolve_threads(threads), count);
    std::atomic<std::int64_t> next = 0;
    std::mutex mutex;
    std::exception_ptr first_error;
    const auto work = [&] {
        try {
            const Task task = make_worker();
            for (std::int64_t i = next++; i < count; i = next++) task(i);
        } catch (...) {
            next = count;  // the others finish what they hold and stop
            const std::lock_guard lock(mutex);
            if (!first_error) first_error = std::current_exception();
        }
    };
    {
        std::vector<std::jthread> helpers;
        for (std::int64_t i = 1; i < workers; ++i) helpers.emplace_back(work);
        work();
    }
    if (first_error) std::rethrow_exception(first_error);
}

void parallel_for(std::int64_t count, int threads, const Task& task) {
    parallel_for_workers(count, threads, [&]() -> Task { return [&task](std::int64_t i) { task(i); }; });
}

}  // namespace mobalab::kernels::cpu
