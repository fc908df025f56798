#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "sim/engine/trial_stats.h"
#include "sim/samplers/trial_range.h"

namespace mobalab::sim {

/// Computes pieces, one chunk or several in a row, on several threads and hands the chunks over in order, one at a
/// time, so that whoever takes them decides when to stop exactly as a single thread would. Chunks computed ahead of a
/// stop are dropped.
///
/// Plain threads and one mutex: all sharing is visible to ThreadSanitizer, a chunk is long against a lock, and the
/// number of threads is the one asked for even above the number of cores.
class ChunkRunner {
public:
    using Stats = std::vector<TrialStats>;                    ///< of a piece's chunks
    using Next = std::function<std::optional<TrialRange>()>;  ///< the next piece, nullopt at the end; under the lock
    using Compute = std::function<Stats(TrialRange)>;         ///< called from all threads at once
    using Collect = std::function<bool(const TrialStats&)>;   ///< in chunk order under the lock; false stops the run

    ChunkRunner(Next next, Compute compute, Collect collect)
        : next_(std::move(next)), compute_(std::move(compute)), collect_(std::move(collect)) {}

    /// Works on `threads` threads, the caller's among them, until the end or a stop. Rethrows the first exception of
    /// any callback. To be called once.
    void run(int threads);

private:
    struct Job {
        std::uint64_t piece;
        TrialRange range;
    };

    void work();
    std::optional<Job> take_job();
    void deliver(std::uint64_t piece, Stats stats);
    void fail(std::exception_ptr error);

    Next next_;
    Compute compute_;
    Collect collect_;
    std::mutex mutex_;
    std::condition_variable progressed_;
    std::uint64_t max_ahead_ = 1;  ///< pieces handed out but not collected, at most
    std::uint64_t handed_out_ = 0;
    std::uint64_t collected_ = 0;
    std::map<std::uint64_t, Stats> waiting_;  ///< finished before their turn
    bool stopped_ = false;
    std::exception_ptr error_;
};

}  // namespace mobalab::sim
