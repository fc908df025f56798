#include "sim/cuda/engine.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <vector>

#include "analysis/routing_point.h"
#include "sim/cuda/launches.h"
#include "sim/samplers/cluster_slots.h"
#include "sim/samplers/token_scores.h"
#include "sim/streams/transforms.h"
#include "sim/tables/octave_table.h"
#include "sim/tables/score_curves.h"

namespace mobalab::sim::cuda {
namespace {

void check(cudaError_t error, const char* what) {
    if (error != cudaSuccess) {
        throw std::runtime_error(fmt::format("CUDA sampler, {}: {}", what, cudaGetErrorString(error)));
    }
}

/// Device memory that grows and is never copied.
template <class T>
class Buffer {
public:
    Buffer() = default;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { cudaFree(data_); }

    T* sized(std::size_t count) {
        if (count > size_) {
            check(cudaFree(data_), "cudaFree");
            data_ = nullptr;
            size_ = 0;
            void* data = nullptr;
            check(cudaMalloc(&data, count * sizeof(T)), "cudaMalloc");
            data_ = static_cast<T*>(data);
            size_ = count;
        }
        return data_;
    }

private:
    T* data_ = nullptr;
    std::size_t size_ = 0;
};

/// Most bytes of shared memory the operands of a query may take: one thread block an SM still runs.
constexpr std::int64_t kMostVectorHeadDim = 16384;
constexpr std::int64_t kMostCorrelatedHeadDim = 2048;

/// Trials of one thread block: few enough that all SMs have work, enough to be long against a start.
std::uint32_t segment_trials(Method method, const analysis::RoutingPoint& point) {
    if (method == Method::threshold) {
        return kThresholdSegment;
    }
    constexpr double kTokens = 32768.0;
    const double tokens = static_cast<double>(point.candidates) * static_cast<double>(point.block_size);
    return static_cast<std::uint32_t>(std::max(1.0, kTokens / tokens));
}

void append_segments(std::vector<Segment>& segments, TrialRange range, std::uint32_t histogram, std::uint32_t size) {
    while (range.begin < range.end) {
        const std::uint64_t same_high_half = (std::uint64_t{1} << 32U) - (range.begin & 0xffffffffU);
        const std::uint64_t trials = std::min({range.end - range.begin, std::uint64_t{size}, same_high_half});
        segments.push_back({range.begin, static_cast<std::uint32_t>(trials), histogram});
        range.begin += trials;
    }
}

/// What the kernels for points beyond the paper's setting are told; `keys` as for plain ones.
BeyondTrials beyond_trials(const analysis::RoutingPoint& point, Method method, KeyTrials keys) {
    const TokenScores::Shape shape(point);
    keys.exponent = affinity_exponent(point.head_dim - (shape.correlated && method == Method::affinity ? 1 : 0));
    return {keys,
            static_cast<std::uint32_t>(shape.needles),
            point.goal,
            shape.mu_signal,
            shape.mu_cluster,
            shape.correlated,
            shape.common_share,
            shape.own_share,
            affinity_exponent(point.head_dim),
            static_cast<std::uint32_t>(shape.width),
            shape.tap,
            KeyRecipe(point),
            nullptr};
}

SubBlockTrials sub_block_trials(const analysis::RoutingPoint& point, const KeyTrials& keys) {
    const ClusterSlots cluster(point);
    return {keys, static_cast<std::uint32_t>(point.scorer.sub_blocks), cluster.needle, cluster.other, nullptr};
}

ScoredTrials scored_trials(const analysis::RoutingPoint& point, const KeyTrials& keys) {
    const analysis::ScorerDefinition& scorer = analysis::definition_of(point.scorer.kind);
    ScoredTrials trials{keys, KeyRecipe(point), scorer.parts, {}};
    std::copy(scorer.part.begin(), scorer.part.end(), trials.part);
    return trials;
}

/// Thread blocks that keep a device busy.
std::uint32_t resident_blocks() {
    int device = 0;
    int processors = 0;
    check(cudaGetDevice(&device), "device");
    check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "device");
    return 4 * static_cast<std::uint32_t>(processors);
}

}  // namespace

struct CudaSampler::State {
    Method method;
    std::uint32_t segment;
    KeyTrials keys{};
    std::optional<BeyondTrials> beyond;        ///< of points that are not plain, by keys
    std::optional<SubBlockTrials> sub_blocks;  ///< of scorers that know affinities, but the mean
    std::optional<ScoredTrials> scored;        ///< of scorers that look at coordinates
    ThresholdTrials thresholds{};
    Buffer<double> coefficients;
    Buffer<Segment> segments;
    Buffer<std::uint32_t> histograms;
    Buffer<std::int64_t> scratch;
    Buffer<std::int32_t> signal_blocks;

    cudaError_t launch(const SegmentList& list) {
        if (scored) {
            return launch_scored_trials(*scored, list, nullptr);
        }
        if (sub_blocks) {
            return launch_sub_blocks(list);
        }
        if (beyond) {
            return launch_beyond(list);
        }
        return method == Method::vector     ? launch_vector_trials(keys, list, nullptr)
               : method == Method::affinity ? launch_affinity_trials(keys, list, nullptr)
                                            : launch_threshold_trials(thresholds, list, nullptr);
    }

private:
    cudaError_t launch_sub_blocks(const SegmentList& list) {
        const std::uint32_t blocks = std::min(list.count, resident_blocks());
        sub_blocks->scratch =
            signal_blocks.sized(std::size_t{blocks} * (static_cast<std::size_t>(keys.block_size) + 1));
        return launch_sub_block_trials(*sub_blocks, method == Method::vector, list, blocks, nullptr);
    }

    cudaError_t launch_beyond(const SegmentList& list) {
        const std::uint32_t blocks = std::min(list.count, resident_blocks());
        beyond->scratch = scratch.sized(2 * std::size_t{blocks} * static_cast<std::size_t>(keys.candidates));
        const bool tiles = method == Method::vector && (beyond->correlated || beyond->recipe.convolution.width > 0);
        return tiles ? launch_tile_trials(*beyond, list, blocks, nullptr)
                     : launch_token_trials(*beyond, method == Method::vector, list, blocks, nullptr);
    }
};

std::string device_trouble() {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) {
        return cudaGetErrorString(error);
    }
    return count > 0 ? "" : "no CUDA device";
}

std::string kernel_trouble(const analysis::RoutingPoint& point, Method method) {
    const analysis::ScorerDefinition& scorer = analysis::definition_of(point.scorer.kind);
    if (scorer.parts == 0) {
        return fmt::format("scorer {} has no CUDA kernel, as it draws next to nothing; use device cpu", scorer.name);
    }
    if (analysis::definition_of(point.model).text_keys) {
        return fmt::format("model {} has no CUDA kernel; use device cpu", analysis::to_string(point.model));
    }
    if (method != Method::vector && method != Method::affinity && method != Method::threshold) {
        return fmt::format("method {} has no CUDA kernel; use method vector, affinity or threshold, or device cpu",
                           to_string(method));
    }
    if (!scorer.knows_affinities_only() &&
        (point.head_dim > kMostScoredHeadDim || point.block_size > kMostScoredBlock)) {
        return fmt::format(
            "head_dim = {}, block_size = {} with scorer {}: a CUDA device takes at most {} and {}; nearest valid "
            "values "
            "are {} and {}, or use device cpu",
            point.head_dim, point.block_size, scorer.name, kMostScoredHeadDim, kMostScoredBlock,
            std::min(point.head_dim, kMostScoredHeadDim), std::min(point.block_size, kMostScoredBlock));
    }
    const std::int64_t most = point.key_correlation > 0.0 ? kMostCorrelatedHeadDim : kMostVectorHeadDim;
    if (method == Method::vector && point.head_dim > most) {
        return fmt::format(
            "head_dim = {}: method vector on a CUDA device takes at most {}{}; nearest valid value is {}, or use "
            "device cpu",
            point.head_dim, most, point.key_correlation > 0.0 ? " with correlated keys" : "", most);
    }
    return "";
}

CudaSampler::CudaSampler(Method method, const analysis::RoutingPoint& point, PhiloxKey key)
    : state_(std::make_unique<State>()) {
    if (const std::string trouble = kernel_trouble(point, method); !trouble.empty()) {
        throw analysis::InputError(trouble);
    }
    state_->method = method;
    state_->segment = segment_trials(method, point);
    state_->keys = {key,
                    point.candidates,
                    static_cast<std::uint64_t>(point.block_size),
                    static_cast<std::uint64_t>(point.cluster_size),
                    std::llround(point.delta_mu_eff() * static_cast<double>(kAffinityScale)),
                    point.head_dim,
                    affinity_exponent(point.head_dim)};
    if (!analysis::definition_of(point.scorer.kind).knows_affinities_only()) {
        state_->scored = scored_trials(point, state_->keys);
    } else if (point.scorer != analysis::Scorer{}) {
        state_->sub_blocks = sub_block_trials(point, state_->keys);
    } else if (method != Method::threshold && !analysis::is_plain(point)) {
        state_->beyond = beyond_trials(point, method, state_->keys);
    }
    if (method == Method::threshold) {
        const OctaveTable table = noise_above_signal_table(point);
        double* device = state_->coefficients.sized(OctaveTable::kSize);
        check(cudaMemcpy(device, table.coefficients.data(), OctaveTable::kSize * sizeof(double), cudaMemcpyDefault),
              "table");
        state_->thresholds = {key, static_cast<std::uint32_t>(point.noise_blocks()), device};
    }
}

CudaSampler::~CudaSampler() = default;

void CudaSampler::count_ranks(std::span<const TrialRange> ranges, std::span<std::uint64_t> histograms,
                              std::size_t bins) {
    std::vector<Segment> segments;
    for (std::size_t i = 0; i < ranges.size(); ++i) {
        append_segments(segments, ranges[i], static_cast<std::uint32_t>(i), state_->segment);
    }
    if (segments.empty()) {
        return;
    }
    const std::size_t counts = ranges.size() * bins;
    Segment* device_segments = state_->segments.sized(segments.size());
    std::uint32_t* device_histograms = state_->histograms.sized(counts);
    check(cudaMemcpy(device_segments, segments.data(), segments.size() * sizeof(Segment), cudaMemcpyDefault),
          "segments");
    check(cudaMemset(device_histograms, 0, counts * sizeof(std::uint32_t)), "histograms");
    const SegmentList list{device_segments, static_cast<std::uint32_t>(segments.size()), device_histograms,
                           static_cast<std::uint32_t>(bins)};
    check(state_->launch(list), "launch");
    std::vector<std::uint32_t> result(counts);
    check(cudaMemcpy(result.data(), device_histograms, counts * sizeof(std::uint32_t), cudaMemcpyDefault), "trials");
    for (std::size_t i = 0; i < counts; ++i) {
        histograms[i] += result[i];
    }
}

}  // namespace mobalab::sim::cuda
