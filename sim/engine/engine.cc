#include "sim/engine/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>

#include "sim/cuda/engine.h"
#include "sim/engine/chunk_runner.h"
#include "sim/samplers/sampler.h"

namespace mobalab::sim {
namespace {

using analysis::InputError;
using analysis::RoutingPoint;

/// About 1 ms of one core: short against any run worth stopping early, long against handing out the next chunk.
constexpr double kChunkCost = 1e6;
constexpr std::uint64_t kMaxChunkTrials = 1U << 16U;

/// topk is at most 512, so misses of every topk can be read from 512 bins.
constexpr std::int64_t kMaxRankBins = 512;
constexpr int kMaxThreads = 4096;

std::uint64_t trials_a_chunk(const Sampler& sampler) {
    const double trials = kChunkCost / sampler.trial_cost();
    return std::clamp(static_cast<std::uint64_t>(std::min(trials, 1e18)), std::uint64_t{1}, kMaxChunkTrials);
}

std::unique_ptr<Sampler> sampler_of(const RoutingPoint& point, const Budget& budget) {
    const Method method = budget.method.value_or(native_method(point));
    check_method(point, method);
    if (!counts_trials(method)) {
        throw InputError(
            fmt::format("method = {}: counts no trials; use vector, affinity, block or threshold", to_string(method)));
    }
    const HotLoops& loops = budget.instruction_set ? loops_of(*budget.instruction_set) : default_loops();
    return make_sampler(method, {point, stream_key(budget.seed, stream_identity(point, method)), &loops});
}

void check_not_negative(std::string_view name, double value) {
    if (!(value >= 0.0) || std::isinf(value)) {
        throw InputError(
            fmt::format("{} = {}: must be a finite number, 0 or above; 0 means no such rule", name, value));
    }
}

void check_budget(const Budget& budget) {
    if (budget.stop.max_trials == 0) {
        throw InputError("max_trials = 0: must be at least 1; nearest valid value is 1");
    }
    check_not_negative("target_relative_error", budget.stop.target_relative_error);
    check_not_negative("max_seconds", budget.stop.max_seconds);
    if (budget.threads < 0 || budget.threads > kMaxThreads) {
        throw InputError(fmt::format("threads = {}: must be in [0, {}]; nearest valid value is {} (0: all)",
                                     budget.threads, kMaxThreads, std::clamp(budget.threads, 0, kMaxThreads)));
    }
}

/// Fixed ranges of trials: chunk i is [i, i + 1) * size, cut at max_trials. A run may start inside a chunk, after an
/// earlier run whose max_trials cut it.
struct Chunks {
    std::uint64_t size;
    std::uint64_t max_trials;

    std::uint64_t count_of(std::uint64_t trials) const { return trials / size + (trials % size != 0 ? 1 : 0); }

    std::uint64_t end_of_chunk_with(std::uint64_t trial) const {
        const std::uint64_t left = size - trial % size;
        return max_trials - trial <= left ? max_trials : trial + left;
    }
};

/// Misses at this topk follow from the ranks: the block is lost when `routed` or more noise blocks beat it.
std::uint64_t count_misses(const std::vector<std::uint64_t>& rank_histogram, const RoutingPoint& point) {
    const auto routed = std::min(static_cast<std::size_t>(point.routed()), rank_histogram.size());
    return std::accumulate(rank_histogram.begin() + static_cast<std::ptrdiff_t>(routed), rank_histogram.end(),
                           std::uint64_t{0});
}

void check_start(const Progress& start, const Chunks& chunks, const RoutingPoint& point) {
    start.stats.check();
    check_not_negative("seconds so far", start.seconds);
    if (start.chunks != chunks.count_of(start.stats.trials)) {
        throw InputError(fmt::format("cannot resume from {} chunks with {} trials: this point's chunks have {} trials",
                                     start.chunks, start.stats.trials, chunks.size));
    }
    if (start.stats.trials == 0) {
        return;
    }
    if (start.stats.rank_histogram.size() != rank_bins(point)) {
        throw InputError(fmt::format("cannot resume from a rank histogram of {} bins: this point has {}",
                                     start.stats.rank_histogram.size(), rank_bins(point)));
    }
    const std::uint64_t misses = count_misses(start.stats.rank_histogram, point);
    if (start.stats.misses != misses) {
        throw InputError(fmt::format("cannot resume from {} misses: at topk = {} the ranks make it {}",
                                     start.stats.misses, point.topk, misses));
    }
}

/// The threads asked for and those that wait for helpers, but no more than there are chunks left. A CUDA device is busy
/// with two: while one launch runs the next is made ready.
int thread_count(const Budget& budget, const Chunks& chunks, std::uint64_t trials_done) {
    const unsigned asked =
        budget.threads > 0 ? static_cast<unsigned>(budget.threads) : std::thread::hardware_concurrency();
    const unsigned wanted = budget.device == Device::cuda ? std::min(asked, 2U) : asked;
    const std::uint64_t left = chunks.count_of(chunks.max_trials) - trials_done / chunks.size;
    return static_cast<int>(std::clamp<std::uint64_t>(wanted + static_cast<unsigned>(budget.helpers.pieces), 1, left));
}

/// Standard error of the miss estimate over the estimate; +inf without a miss. Without a hit it is that of one hit: a
/// trial or two that missed say little about how rare hits are.
double relative_error(const TrialStats& stats) {
    const auto trials = static_cast<double>(stats.trials);
    const auto misses = static_cast<double>(stats.misses);
    return misses > 0 ? std::sqrt(std::max(trials - misses, 1.0) / (trials * misses)) : INFINITY;
}

/// The first rule met. Rules on counts wait for whole chunks: otherwise a resumed run, which may pass through the end
/// of a cut chunk, could stop where an uninterrupted one would not.
std::optional<StopReason> reason_to_stop(const StopRule& stop, const Progress& progress, const Chunks& chunks) {
    const TrialStats& stats = progress.stats;
    const bool finished = stats.trials >= stop.max_trials;
    if (stats.trials > 0 && (finished || stats.trials % chunks.size == 0)) {
        if (stop.max_misses > 0 && stats.misses >= stop.max_misses) {
            return StopReason::misses;
        }
        if (stop.target_relative_error > 0 && relative_error(stats) <= stop.target_relative_error) {
            return StopReason::relative_error;
        }
    }
    if (finished) {
        return StopReason::trials;
    }
    if (stop.max_seconds > 0 && progress.seconds >= stop.max_seconds) {
        return StopReason::seconds;
    }
    return std::nullopt;
}

/// Trials of a point on the CPU or a CUDA device, with the counts of its topk.
TrialStats stats_of(std::vector<std::uint64_t> rank_histogram, TrialRange range, const RoutingPoint& point) {
    TrialStats stats;
    stats.trials = range.end - range.begin;
    stats.misses = count_misses(rank_histogram, point);
    stats.rank_histogram = std::move(rank_histogram);
    return stats;
}

/// CPU work that a CUDA device does in some 20 ms: long against a launch, short against an interrupt.
constexpr double kDeviceBatchCost = 5e9;
constexpr double kMaxDeviceChunks = 2048;  ///< that are counted apart: so a reply to another rank stays small
constexpr std::uint64_t kShortPieces = 6;  ///< each twice the one before

/// Takes finished chunks in order and decides when the run ends.
class Collector {
public:
    Collector(const StopRule& stop, const Chunks& chunks, Progress start, const ChunkObserver& observer)
        : stop_(stop), chunks_(chunks), progress_(std::move(start)), observer_(observer), seconds_(progress_.seconds) {
        reason_ = reason_to_stop(stop_, progress_, chunks_);
    }

    bool stopped() const { return reason_.has_value(); }

    void take(const TrialStats& stats) {
        progress_.stats += stats;
        progress_.chunks = chunks_.count_of(progress_.stats.trials);
        const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
        progress_.seconds = seconds_ + elapsed.count();
        reason_ = reason_to_stop(stop_, progress_, chunks_);
        if (observer_ && !observer_(progress_) && !stopped()) {
            reason_ = StopReason::interrupted;
        }
    }

    SimulationResult result() const { return {progress_, reason_.value()}; }

private:
    StopRule stop_;
    Chunks chunks_;
    Progress progress_;
    const ChunkObserver& observer_;
    double seconds_;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
    std::optional<StopReason> reason_;
};

}  // namespace

std::size_t rank_bins(const RoutingPoint& point) {
    return static_cast<std::size_t>(std::min(point.candidates, kMaxRankBins));
}

std::string_view to_string(Device device) {
    return device == Device::cuda ? "cuda" : "cpu";
}

std::string_view to_string(StopReason reason) {
    switch (reason) {
        case StopReason::trials:
            return "trials";
        case StopReason::misses:
            return "misses";
        case StopReason::relative_error:
            return "relative-error";
        case StopReason::seconds:
            return "seconds";
        case StopReason::interrupted:
            return "interrupted";
        case StopReason::exact:
            return "exact";
    }
    throw std::logic_error("to_string: not a StopReason");
}

SimulationResult simulate(const RoutingPoint& point, const Budget& budget, const Progress& start,
                          const ChunkObserver& observer) {
    analysis::validate(point);
    check_budget(budget);
    const ChunkComputer computer(point, budget);
    const Chunks chunks{computer.chunk_trials(), budget.stop.max_trials};
    check_start(start, chunks, point);

    Progress progress = start;
    if (start.stats.trials == 0) {
        progress.stats.rank_histogram.assign(rank_bins(point), 0);
    }
    Collector collector(budget.stop, chunks, std::move(progress), observer);
    if (!collector.stopped()) {
        std::uint64_t next_trial = start.stats.trials;
        std::uint64_t pieces = 0;
        const auto next = [&]() -> std::optional<TrialRange> {
            if (next_trial >= chunks.max_trials) {
                return std::nullopt;
            }
            const TrialRange piece = computer.piece(next_trial, pieces++);
            next_trial = piece.end;
            return piece;
        };
        const auto compute = [&](TrialRange range) {
            auto stats = budget.helpers.pieces > 0 ? budget.helpers.compute(range) : std::nullopt;
            return stats ? std::move(*stats) : computer(range);
        };
        const auto collect = [&](const TrialStats& stats) {
            collector.take(stats);
            return !collector.stopped();
        };
        ChunkRunner(next, compute, collect).run(thread_count(budget, chunks, start.stats.trials));
    }
    return collector.result();
}

struct ChunkComputer::State {
    RoutingPoint point;
    std::unique_ptr<Sampler> sampler;
    Chunks chunks;
    bool apart;  ///< every chunk has its own counts
    bool uses_cuda;
    Method method;
    PhiloxKey key;
    std::vector<std::unique_ptr<cuda::CudaSampler>> idle;  ///< one more is made whenever all are at work
    std::mutex idle_mutex;

    std::unique_ptr<cuda::CudaSampler> take_device() {
        {
            const std::lock_guard lock(idle_mutex);
            if (!idle.empty()) {
                auto device = std::move(idle.back());
                idle.pop_back();
                return device;
            }
        }
        return std::make_unique<cuda::CudaSampler>(method, point, key);
    }

    void give_back(std::unique_ptr<cuda::CudaSampler> device) {
        const std::lock_guard lock(idle_mutex);
        idle.push_back(std::move(device));
    }

    std::vector<TrialStats> on_cuda(TrialRange range) {
        std::vector<TrialRange> ranges;
        while (range.begin < range.end) {
            const std::uint64_t end = apart ? std::min(range.end, chunks.end_of_chunk_with(range.begin)) : range.end;
            ranges.push_back({std::exchange(range.begin, end), end});
        }
        const std::size_t bins = rank_bins(point);
        std::vector<std::uint64_t> histograms(ranges.size() * bins);
        auto device = take_device();
        device->count_ranks(ranges, histograms, bins);
        give_back(std::move(device));
        std::vector<TrialStats> stats;
        for (std::size_t i = 0; i < ranges.size(); ++i) {
            const auto first = histograms.begin() + static_cast<std::ptrdiff_t>(i * bins);
            stats.push_back(stats_of({first, first + static_cast<std::ptrdiff_t>(bins)}, ranges[i], point));
        }
        return stats;
    }
};

ChunkComputer::ChunkComputer(const RoutingPoint& point, const Budget& budget) : state_(std::make_unique<State>()) {
    analysis::validate(point);
    state_->point = point;
    state_->sampler = sampler_of(point, budget);
    state_->chunks = {trials_a_chunk(*state_->sampler), budget.stop.max_trials};
    state_->apart = budget.stop.max_misses > 0 || budget.stop.target_relative_error > 0;
    state_->uses_cuda = budget.device == Device::cuda;
    state_->method = budget.method.value_or(native_method(point));
    state_->key = stream_key(budget.seed, stream_identity(point, state_->method));
    if (state_->uses_cuda) {
        state_->give_back(state_->take_device());  // what is wrong with the device shows here
    }
}

ChunkComputer::~ChunkComputer() = default;

std::uint64_t ChunkComputer::chunk_trials() const {
    return state_->chunks.size;
}

TrialRange ChunkComputer::piece(std::uint64_t begin, std::uint64_t number) const {
    const Chunks& chunks = state_->chunks;
    std::uint64_t end = chunks.end_of_chunk_with(begin);
    if (state_->uses_cuda) {
        const double cost =
            std::ldexp(kDeviceBatchCost, -static_cast<int>(kShortPieces - std::min(number, kShortPieces)));
        const double affordable = cost / (state_->sampler->trial_cost() * static_cast<double>(chunks.size));
        const double most = state_->apart ? kMaxDeviceChunks : affordable;
        const auto more = static_cast<std::uint64_t>(std::max(0.0, std::min(affordable, most) - 1.0));
        const std::uint64_t left = chunks.max_trials - end;
        end = left / chunks.size < more ? chunks.max_trials : end + more * chunks.size;
    }
    return {begin, end};
}

std::vector<TrialStats> ChunkComputer::operator()(TrialRange range) const {
    if (state_->uses_cuda) {
        return state_->on_cuda(range);
    }
    std::vector<std::uint64_t> ranks(rank_bins(state_->point));
    state_->sampler->count_ranks(range.begin, range.end - range.begin, ranks);
    return {stats_of(std::move(ranks), range, state_->point)};
}

std::uint64_t chunk_trials(const RoutingPoint& point, std::optional<Method> method) {
    analysis::validate(point);
    Budget budget;
    budget.method = method;
    return trials_a_chunk(*sampler_of(point, budget));
}

}  // namespace mobalab::sim
