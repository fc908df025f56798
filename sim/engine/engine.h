#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "analysis/routing_point.h"
#include "sim/engine/chunk_runner.h"
#include "sim/engine/trial_stats.h"
#include "sim/samplers/method.h"
#include "sim/simd/instruction_set.h"

namespace mobalab::sim {

/// When to stop; the first rule met wins. Rules are looked at after whole chunks, in chunk order, so the counts do not
/// depend on the number of threads (max_seconds excepted: it depends on the clock and says so in StopReason).
struct StopRule {
    std::uint64_t max_trials = 1'000'000;  ///< always a rule; the last chunk is cut to end exactly here
    std::uint64_t max_misses = 0;          ///< 0: not a rule
    double target_relative_error = 0.0;    ///< standard error of the miss estimate over the estimate; 0: not a rule
    double max_seconds = 0.0;              ///< 0: not a rule
};

/// Other processes that compute chunks as well.
struct ChunkHelpers {
    int pieces = 0;  ///< they hold at once; as many threads more wait in `compute`
    /// Has a piece computed there, as ChunkComputer would; nothing when no helper is free.
    std::function<std::optional<std::vector<TrialStats>>(TrialRange)> compute = {};
};

enum class StopReason { trials, misses, relative_error, seconds, interrupted, exact };  ///< exact: nothing to draw
std::string_view to_string(StopReason reason);

/// Where trials are drawn. The counts are the same.
enum class Device { cpu, cuda };
std::string_view to_string(Device device);

struct Budget {
    StopRule stop;
    std::uint64_t seed = 1;
    int threads = 0;                              ///< 0: all hardware threads
    ChunkHelpers helpers = {};                    ///< none by default
    std::optional<Method> method = std::nullopt;  ///< a counting method; empty: native_method() of the point
    Device device = Device::cpu;                  ///< cuda: the current device; methods vector, affinity and threshold
    /// What the CPU's loops run on, for tests: every set gives the same counts. Empty: default_loops().
    std::optional<InstructionSet> instruction_set = std::nullopt;
};

/// Chunks [0, chunks) done, with their counts; the last one may have been cut by max_trials. What a checkpoint stores,
/// and where a resumed run starts.
struct Progress {
    std::uint64_t chunks = 0;
    double seconds = 0.0;  ///< time spent so far, earlier runs included
    TrialStats stats;
};

struct SimulationResult {
    Progress progress;
    StopReason reason = StopReason::trials;
};

/// Called from one thread at a time, in chunk order, after each chunk counted. Returning false interrupts.
using ChunkObserver = std::function<bool(const Progress&)>;

/// Runs the sampler of budget.method until a stop rule is met. The counts are a function of (seed, point, method, stop
/// rule) alone: not of threads, chunk scheduling or resume. `start` continues an earlier run of the same point, method
/// and seed. Throws analysis::InputError for a bad point or budget, or a start that cannot be of this point.
SimulationResult simulate(const analysis::RoutingPoint& point, const Budget& budget, const Progress& start = {},
                          const ChunkObserver& observer = {});

/// Computes chunks of one point for a simulate() here or in another process. Safe to call from several threads.
class ChunkComputer {
public:
    /// Of `budget` the stop rules, the seed, the method, the device and the instruction set count. Throws
    /// analysis::InputError for a bad point or budget.
    ChunkComputer(const analysis::RoutingPoint& point, const Budget& budget);
    ~ChunkComputer();
    ChunkComputer(const ChunkComputer&) = delete;
    ChunkComputer& operator=(const ChunkComputer&) = delete;

    /// Counts of the chunks of a range, in order. On a CUDA device those of a run whose stop rules do not look at
    /// counts are taken together.
    std::vector<TrialStats> operator()(TrialRange range) const;

    /// The next piece to compute from `begin` on: a chunk, on a CUDA device a launch of chunks. `number` of the piece:
    /// the first ones are short, as a run that is soon over should not compute much ahead.
    TrialRange piece(std::uint64_t begin, std::uint64_t number) const;

    std::uint64_t chunk_trials() const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

/// Trials of one chunk of this point: fixed by the point and the method (empty: native_method()) alone.
std::uint64_t chunk_trials(const analysis::RoutingPoint& point, std::optional<Method> method = std::nullopt);

/// Bins of the rank histograms of this point.
std::size_t rank_bins(const analysis::RoutingPoint& point);

}  // namespace mobalab::sim
