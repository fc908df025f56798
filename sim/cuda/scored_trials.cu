#include <algorithm>

#include "sim/cuda/key_runs.cuh"
#include "sim/cuda/launches.h"

namespace mobalab::sim::cuda {
namespace {

/// Blocks whose keys a thread block makes together: enough pairs of a block and four channels for all its threads, as
/// far as there is room for what is known of the keys.
std::uint32_t tile_blocks(std::int64_t head_dim, std::int64_t block_size) {
    const std::int64_t quads = (head_dim + 3) / 4;
    return static_cast<std::uint32_t>(
        std::max<std::int64_t>(1, std::min((kThreads + quads - 1) / quads, kMostScoredBlock / block_size)));
}

/// Dynamic shared memory: the operands of vectors, then what a tile's keys are made with and what their channels add.
std::size_t shared_bytes(std::int64_t head_dim, std::int64_t block_size) {
    const std::size_t blocks = tile_blocks(head_dim, block_size);
    const auto quads = static_cast<std::size_t>((head_dim + 3) / 4);
    return vector_operand_bytes(head_dim) +
           blocks * (2 * static_cast<std::size_t>(block_size) + 4 * quads) * sizeof(float);
}

/// A tile in shared memory; sizes are those of `blocks` whole blocks.
struct KeyShares {
    float* own;       ///< [keys], of a key's own normals
    float* query;     ///< [keys], of the query
    float* channels;  ///< [blocks][4 quads], what a channel adds to the score

    __device__ KeyShares(const KeyTrials& keys, std::uint32_t blocks)
        : own(reinterpret_cast<float*>(reinterpret_cast<char*>(shared_quads) + vector_operand_bytes(keys.head_dim))),
          query(own + blocks * keys.block_size),
          channels(query + blocks * keys.block_size) {}
};

/// Coordinates 4 quad .. 4 quad + 3 of a token's normals.
__device__ __forceinline__ void normals(float (&x)[4], PhiloxKey key, std::uint64_t trial, std::uint64_t token,
                                        std::uint32_t quad) {
    const Words w = device_philox(key, trial, (static_cast<std::uint64_t>(quad) << 32U) + 1 + token);
    const Pair low = normal_pair(w.x[0], w.x[1]);
    const Pair high = normal_pair(w.x[2], w.x[3]);
    x[0] = low.first;
    x[1] = low.second;
    x[2] = high.first;
    x[3] = high.second;
}

/// How a key is made of its normals (ScoredVectorSampler::make_keys of sim/samplers/scored_vector_sampler.cc).
__device__ void share_key(const KeyShares& shares, std::uint32_t at, std::uint64_t token, std::uint64_t trial,
                          const ScoredTrials& trials) {
    const auto dims = static_cast<std::uint32_t>(trials.keys.head_dim);
    float square = 0.0F;
    float along = 0.0F;
    for (std::uint32_t quad = 0; 4 * quad < dims; ++quad) {
        float x[4];
        normals(x, trials.keys.key, trial, token, quad);
#pragma unroll
        for (std::uint32_t i = 0; i < 4; ++i) {
            if (4 * quad + i < dims) {
                along += x[i] * shared_quads[quad].coords[i];
                square += x[i] * x[i];
            }
        }
    }
    const bool planted = token < trials.keys.cluster_size;
    const KeyRecipe::Share share = !planted     ? trials.recipe.random
                                   : token == 0 ? trials.recipe.signal
                                                : trials.recipe.cluster;
    const float query_part = planted ? along : 0.0F;
    const float own = share.across / perpendicular(square, query_part);
    shares.own[at] = own;
    shares.query[at] = share.along - own * query_part;
}

__device__ __forceinline__ float summary_start(analysis::Summary summary) {
    return summary == analysis::Summary::mean ? 0.0F : summary == analysis::Summary::maximum ? -INFINITY : INFINITY;
}

__device__ __forceinline__ float summarised(analysis::Summary summary, float so_far, float x) {
    return summary == analysis::Summary::mean      ? so_far + x
           : summary == analysis::Summary::maximum ? (so_far > x ? so_far : x)
                                                   : (so_far < x ? so_far : x);
}

/// What four channels add to a block's score; `block` counts from the tile's first, whose first token is given.
__device__ void score_channels(const KeyShares& shares, std::uint32_t block, std::uint32_t quad,
                               std::uint64_t first_token, std::uint64_t trial, const ScoredTrials& trials) {
    constexpr int kParts = analysis::most_score_parts;
    const auto block_size = static_cast<std::uint32_t>(trials.keys.block_size);
    const std::uint32_t quads = static_cast<std::uint32_t>(trials.keys.head_dim + 3) / 4;
    const float* query = shared_quads[quad].coords;
    float summary[kParts][4];
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            summary[part][i] = summary_start(trials.part[part].summary);
        }
    }
    for (std::uint32_t key = block * block_size; key < (block + 1) * block_size; ++key) {
        float x[4];
        normals(x, trials.keys.key, trial, first_token + key, quad);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            x[i] = shares.own[key] * x[i] + shares.query[key] * query[i];
        }
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
            if (part < trials.parts) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    summary[part][i] = summarised(trials.part[part].summary, summary[part][i], x[i]);
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        float channel = 0.0F;
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
            if (part < trials.parts) {
                channel += score_term(trials.part[part], query[i], summary[part][i], trials.keys.block_size);
            }
        }
        shares.channels[4 * (block * quads + quad) + i] = channel;
    }
}

/// Ranks of the trials of sim/samplers/scored_vector_sampler.cc: a segment's trials, one after the other by the whole
/// thread block. Keys are made twice, first a key a thread, which learns its length, then four channels of a block a
/// thread, which takes the keys in their order.
__global__ void __launch_bounds__(kThreads)
    scored_trials_kernel(ScoredTrials trials, std::uint32_t blocks, SegmentList list) {
    __shared__ std::uint32_t above_of_warp[kWarps];
    __shared__ float signal;
    const KeyShares shares(trials.keys, blocks);
    const auto candidates = static_cast<std::uint32_t>(trials.keys.candidates);
    const auto dims = static_cast<std::uint32_t>(trials.keys.head_dim);
    const std::uint32_t quads = (dims + 3) / 4;
    const Segment segment = list.segments[blockIdx.x];
    for (std::uint32_t t = 0; t < segment.trials; ++t) {
        const std::uint64_t trial = segment.first_trial + t;
        VectorKeys::begin_trial(trials.keys, trial);
        std::uint32_t above = 0;
        for (std::uint32_t first = 0; first < candidates; first += blocks) {
            const std::uint32_t now = min(blocks, candidates - first);
            const std::uint64_t first_token = first * trials.keys.block_size;
            for (std::uint32_t i = threadIdx.x; i < now * trials.keys.block_size; i += kThreads) {
                share_key(shares, i, first_token + i, trial, trials);
            }
            __syncthreads();
            for (std::uint32_t i = threadIdx.x; i < now * quads; i += kThreads) {
                score_channels(shares, i / quads, i % quads, first_token, trial, trials);
            }
            __syncthreads();
            const std::uint32_t block = first + threadIdx.x;
            float score = 0.0F;
            if (threadIdx.x < now) {
                for (std::uint32_t j = 0; j < dims; ++j) {
                    score += shares.channels[4 * quads * threadIdx.x + j];
                }
                if (block == 0) {
                    signal = score;
                }
            }
            __syncthreads();
            if (threadIdx.x < now && block > 0 && score >= signal) {
                above += score > signal || block > device_signal_index(trials.keys.key, trial, trials.keys.candidates);
            }
        }
        const std::uint32_t sum = sum_of_threads(above, above_of_warp);
        if (threadIdx.x == 0) {
            count_device_rank(list, segment, sum);
        }
        __syncthreads();
    }
}

}  // namespace

cudaError_t launch_scored_trials(const ScoredTrials& trials, const SegmentList& list, cudaStream_t stream) {
    const auto block_size = static_cast<std::int64_t>(trials.keys.block_size);
    const std::size_t bytes = shared_bytes(trials.keys.head_dim, block_size);
    const cudaError_t error = cudaFuncSetAttribute(scored_trials_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   static_cast<int>(bytes));
    if (error != cudaSuccess) {
        return error;
    }
    scored_trials_kernel<<<list.count, kThreads, bytes, stream>>>(trials, tile_blocks(trials.keys.head_dim, block_size),
                                                                  list);
    return cudaGetLastError();
}

}  // namespace mobalab::sim::cuda
