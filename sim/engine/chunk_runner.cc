#include "sim/engine/chunk_runner.h"

#include <algorithm>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace mobalab::sim {

void ChunkRunner::run(int threads) {
    max_ahead_ = 4 * static_cast<std::uint64_t>(threads);
    {
        std::vector<std::jthread> helpers;
        for (int i = 1; i < threads; ++i) {
            try {
                helpers.emplace_back([this] { work(); });
            } catch (const std::system_error&) {
                break;  // the system gives no more threads; fewer give the same counts
            }
        }
        work();
    }
    if (error_) {
        std::rethrow_exception(error_);
    }
}

void ChunkRunner::work() {
    try {
        while (const std::optional<Job> job = take_job()) {
            deliver(job->piece, compute_(job->range));
        }
    } catch (...) {
        fail(std::current_exception());
    }
}

std::optional<ChunkRunner::Job> ChunkRunner::take_job() {
    std::unique_lock lock(mutex_);
    progressed_.wait(lock, [this] { return stopped_ || handed_out_ - collected_ < max_ahead_; });
    if (stopped_) {
        return std::nullopt;
    }
    const std::optional<TrialRange> range = next_();
    if (!range) {
        return std::nullopt;
    }
    return Job{handed_out_++, *range};
}

void ChunkRunner::deliver(std::uint64_t piece, Stats stats) {
    const std::lock_guard lock(mutex_);
    waiting_.emplace(piece, std::move(stats));
    while (!stopped_ && !waiting_.empty() && waiting_.begin()->first == collected_) {
        const Stats& chunks = waiting_.begin()->second;
        stopped_ = !std::all_of(chunks.begin(), chunks.end(), collect_);
        waiting_.erase(waiting_.begin());
        ++collected_;
    }
    progressed_.notify_all();
}

void ChunkRunner::fail(std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    if (!error_) {
        error_ = std::move(error);
    }
    progressed_.notify_all();
}

}  // namespace mobalab::sim
