#include "sim/cuda/engine.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "analysis/routing_point.h"
#include "sim/cuda/launches.h"
#include "sim/octave_table.h"
#include "sim/score_curves.h"
#include "sim/transforms.h"

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

}  // namespace

struct CudaSampler::State {
    Method method;
    std::uint32_t segment;
    KeyTrials keys{};
    ThresholdTrials thresholds{};
    Buffer<double> coefficients;
    Buffer<Segment> segments;
    Buffer<std::uint32_t> histograms;
};

std::string device_trouble() {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) {
        return cudaGetErrorString(error);
    }
    return count > 0 ? "" : "no CUDA device";
}

bool has_kernel(const analysis::RoutingPoint& point, Method method) {
    const bool by_keys = method == Method::vector || method == Method::affinity;
    return method == Method::threshold || (by_keys && analysis::is_plain(point));
}

CudaSampler::CudaSampler(Method method, const analysis::RoutingPoint& point, PhiloxKey key)
    : state_(std::make_unique<State>()) {
    if (!has_kernel(point, method)) {
        throw analysis::InputError(
            fmt::format("method = {}: has no CUDA kernel; use method vector, affinity or "
                        "threshold, or device cpu",
                        to_string(method)));
    }
    if (method == Method::vector && point.head_dim > kMostVectorHeadDim) {
        throw analysis::InputError(
            fmt::format("head_dim = {}: method vector on a CUDA device takes at most {}; nearest "
                        "valid value is {}, or use device cpu",
                        point.head_dim, kMostVectorHeadDim, kMostVectorHeadDim));
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
    check(state_->method == Method::vector     ? launch_vector_trials(state_->keys, list, nullptr)
          : state_->method == Method::affinity ? launch_affinity_trials(state_->keys, list, nullptr)
                                               : launch_threshold_trials(state_->thresholds, list, nullptr),
          "launch");
    std::vector<std::uint32_t> result(counts);
    check(cudaMemcpy(result.data(), device_histograms, counts * sizeof(std::uint32_t), cudaMemcpyDefault), "trials");
    for (std::size_t i = 0; i < counts; ++i) {
        histograms[i] += result[i];
    }
}

}  // namespace mobalab::sim::cuda
