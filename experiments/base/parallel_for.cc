#include "experiments/base/parallel_for.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "experiments/base/build_info.h"
#include "experiments/base/interrupt.h"

namespace mobalab::experiments {

int thread_count(int threads) {
    return threads > 0 ? threads : std::max(1, cpu_threads());
}

void parallel_for(std::size_t count, int threads, const std::function<void(std::size_t)>& body) {
    std::atomic<std::size_t> next{0};
    std::mutex mutex;
    std::exception_ptr failure;
    const auto work = [&] {
        for (std::size_t i = next++; i < count; i = next++) {
            try {
                stop_if_interrupted();
                body(i);
            } catch (...) {
                const std::lock_guard lock(mutex);
                if (!failure) {
                    failure = std::current_exception();
                }
                next = count;
            }
        }
    };
    {
        const std::size_t helpers = std::min(count, static_cast<std::size_t>(std::max(1, threads)));
        std::vector<std::jthread> pool;
        for (std::size_t i = 1; i < helpers; ++i) {
            try {
                pool.emplace_back(work);
            } catch (const std::system_error&) {
                break;  // the system gives no more threads; fewer do the same work
            }
        }
        work();
    }
    if (failure) {
        std::rethrow_exception(failure);
    }
}

}  // namespace mobalab::experiments
