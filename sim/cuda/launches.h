#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "analysis/routing_point.h"
#include "analysis/scorer.h"
#include "sim/simd/key_tile_layout.h"
#include "sim/streams/philox.h"

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

/// Affinities a key, summed to block scores (sim/samplers/block_ranks.h).
struct KeyTrials {
    PhiloxKey key;
    std::int64_t candidates;
    std::uint64_t block_size;
    std::uint64_t cluster_size;
    std::int64_t cluster_sum;
    std::int64_t head_dim;
    float exponent;  ///< affinity_exponent(head_dim)
};

/// Points beyond the paper's setting: several needles, correlated keys, key convolution (sim/samplers/token_scores.h,
/// sim/simd/key_tile_layout.h).
struct BeyondTrials {
    KeyTrials keys;  ///< exponent: of the independent part of an affinity
    std::uint32_t needles;
    analysis::Goal goal;
    std::int64_t mu_signal;  ///< steps of 2^-30
    std::int64_t mu_cluster;
    bool correlated;
    double common_share;    ///< sqrt(rho)
    double own_share;       ///< 1 - rho
    float common_exponent;  ///< affinity_exponent(head_dim)
    std::uint32_t width;    ///< of a linear convolution of affinities
    double tap;
    KeyRecipe recipe;       ///< of vectors
    std::int64_t* scratch;  ///< on the device, [thread blocks][2][candidates]
};

/// The best of a block's sub-blocks by affinities (sim/samplers/cluster_slots.h).
struct SubBlockTrials {
    KeyTrials keys;
    std::uint32_t sub_blocks;
    std::int32_t needle;  ///< steps of 2^-30
    std::int32_t other;
    std::int32_t* scratch;  ///< on the device, [thread blocks][block_size + 1]
};

/// Scores of real keys' coordinates (sim/samplers/scored_vector_sampler.h).
struct ScoredTrials {
    KeyTrials keys;
    KeyRecipe recipe;
    int parts;
    analysis::ScorePart part[analysis::most_score_parts];
};

/// Uniforms a block, compared with a table's probability (sim/streams/threshold_stream.h).
struct ThresholdTrials {
    PhiloxKey key;
    std::uint32_t noise_blocks;
    const double* coefficients;  ///< on the device
};

// Each launches on the stream and returns launch errors.
cudaError_t launch_vector_trials(const KeyTrials& trials, const SegmentList& list, cudaStream_t stream);
cudaError_t launch_affinity_trials(const KeyTrials& trials, const SegmentList& list, cudaStream_t stream);
cudaError_t launch_threshold_trials(const ThresholdTrials& trials, const SegmentList& list, cudaStream_t stream);

/// `blocks` thread blocks share the segments.
cudaError_t launch_token_trials(const BeyondTrials& trials, bool vectors, const SegmentList& list, std::uint32_t blocks,
                                cudaStream_t stream);
cudaError_t launch_tile_trials(const BeyondTrials& trials, const SegmentList& list, std::uint32_t blocks,
                               cudaStream_t stream);

cudaError_t launch_sub_block_trials(const SubBlockTrials& trials, bool vectors, const SegmentList& list,
                                    std::uint32_t blocks, cudaStream_t stream);

/// Up to kMostScoredBlock keys a block and kMostScoredHeadDim dimensions.
cudaError_t launch_scored_trials(const ScoredTrials& trials, const SegmentList& list, cudaStream_t stream);
inline constexpr std::int64_t kMostScoredBlock = 4096;
inline constexpr std::int64_t kMostScoredHeadDim = 8192;

/// Dynamic shared memory that launch_tile_trials() needs.
std::size_t tile_shared_bytes(std::int64_t head_dim, bool correlated);

/// Trials of one segment that keep a thread block busy for long against its start.
inline constexpr std::uint32_t kThresholdSegment = 1024;

}  // namespace mobalab::sim::cuda
