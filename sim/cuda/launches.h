#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "sim/philox.h"

namespace mobalab::sim::cuda {

/// Consecutive trials that one thread block takes, and the histogram they count into.
struct Segment {
    std::uint64_t first_trial;
    std::uint32_t trials;
    std::uint32_t histogram;
};

struct SegmentList {
    const Segment* segments;
    std::uint32_t count;
    std::uint32_t* histograms;  ///< [.][bins]
    std::uint32_t bins;
};

/// Affinities a key, summed to block scores (sim/block_ranks.h).
struct KeyTrials {
    PhiloxKey key;
    std::int64_t candidates;
    std::uint64_t block_size;
    std::uint64_t cluster_size;
    std::int64_t cluster_sum;
    std::int64_t head_dim;
    float exponent;  ///< affinity_exponent(head_dim)
};

/// Uniforms a block, compared with a table's probability (sim/threshold_stream.h).
struct ThresholdTrials {
    PhiloxKey key;
    std::uint32_t noise_blocks;
    const double* coefficients;  ///< on the device
};

// Each launches on the stream and returns launch errors.
cudaError_t launch_vector_trials(const KeyTrials& trials, const SegmentList& list, cudaStream_t stream);
cudaError_t launch_affinity_trials(const KeyTrials& trials, const SegmentList& list, cudaStream_t stream);
cudaError_t launch_threshold_trials(const ThresholdTrials& trials, const SegmentList& list, cudaStream_t stream);

/// Trials of one segment that keep a thread block busy for long against its start.
inline constexpr std::uint32_t kThresholdSegment = 1024;

}  // namespace mobalab::sim::cuda
