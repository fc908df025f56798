#include "sim/cuda/key_affinities.cuh"
#include "sim/cuda/launches.h"
#include "sim/cuda/needle_places.cuh"

namespace mobalab::sim::cuda {
namespace {

/// Blocks whose common components a thread block holds at once.
constexpr std::uint32_t kCommons = 16;

/// Keys that a thread block makes together, one a thread, in the order of the sequence: `halo` keys before `begin`,
/// which the convolution of the first ones needs, then `count` keys that are counted.
struct KeyGroup {
    std::uint64_t begin;
    std::uint32_t halo;
    std::uint32_t count;
    std::uint64_t first_block;  ///< index of the block of its oldest key
};

__device__ KeyGroup group_at(std::uint64_t begin, std::uint64_t tokens, const BeyondTrials& trials) {
    const auto width = static_cast<std::uint32_t>(trials.recipe.convolution.width);
    KeyGroup group{begin, width > 1 ? width - 1 : 0, 0, 0};
    group.first_block = (begin > group.halo ? begin - group.halo : 0) / trials.keys.block_size;
    std::uint64_t end = min(begin + kThreads - group.halo, tokens);
    if (trials.correlated) {
        end = min(end, (group.first_block + kCommons) * trials.keys.block_size);
    }
    group.count = static_cast<std::uint32_t>(end - begin);
    return group;
}

/// unit_row() of sim/samplers/key_tile_sampler.cc for the common components of the blocks from index `first` on.
__device__ void draw_commons(float* commons, std::uint64_t first, std::uint32_t blocks, std::uint64_t trial,
                             const BeyondTrials& trials, const DevicePlaces& places) {
    const auto dims = static_cast<std::uint32_t>(trials.keys.head_dim);
    const std::uint32_t quads = (dims + 3) / 4;
    const std::uint64_t rows_before = 1 + static_cast<std::uint64_t>(trials.keys.candidates) * trials.keys.block_size;
    for (std::uint32_t i = threadIdx.x; i < blocks * quads; i += kThreads) {
        const std::uint32_t quad = i % quads;
        const std::uint32_t block = places.stream_block(static_cast<std::uint32_t>(first) + i / quads);
        const Words w =
            device_philox(trials.keys.key, trial, (static_cast<std::uint64_t>(quad) << 32U) + rows_before + block);
        for (int pair = 0; pair < 2; ++pair) {
            const Pair z = normal_pair(w.x[2 * pair], w.x[2 * pair + 1]);
            commons[4 * i + 2 * pair] = z.first;
            commons[4 * i + 2 * pair + 1] = z.second;
        }
    }
    __syncthreads();
    __shared__ float norms[kCommons];
    if (threadIdx.x < blocks) {
        const float* row = commons + 4 * static_cast<std::size_t>(threadIdx.x) * quads;
        float square = 0.0F;
        for (std::uint32_t j = 0; j < dims; ++j) {
            square += row[j] * row[j];
        }
        norms[threadIdx.x] = std::sqrt(square);
    }
    __syncthreads();
    for (std::uint32_t i = threadIdx.x; i < blocks * 4 * quads; i += kThreads) {
        commons[i] /= norms[i / (4 * quads)];
    }
    __syncthreads();
}

/// One key of a group, in the form of KeyMix (sim/simd/key_tile_layout.h).
struct Key {
    bool there;  ///< false before the sequence and beyond the group
    std::uint32_t block;
    std::uint32_t row;
    const float* common;  ///< null: none
    float own_share, common_share, query_share;

    /// Coordinates 4 quad .. 4 quad + 3 of the normals of its row.
    __device__ void normals(float (&x)[4], std::uint32_t quad, std::uint64_t trial, PhiloxKey key) const {
        const Words w = device_philox(key, trial, (static_cast<std::uint64_t>(quad) << 32U) + row);
        for (int pair = 0; pair < 2; ++pair) {
            const Pair z = normal_pair(w.x[2 * pair], w.x[2 * pair + 1]);
            x[2 * pair] = z.first;
            x[2 * pair + 1] = z.second;
        }
    }
};

__device__ Key make_key(const KeyGroup& group, std::uint64_t trial, const BeyondTrials& trials,
                        const DevicePlaces& places, const float* commons) {
    const auto dims = static_cast<std::uint32_t>(trials.keys.head_dim);
    const std::uint32_t quads = (dims + 3) / 4;
    Key key{};
    key.there = group.begin + threadIdx.x >= group.halo && threadIdx.x < group.halo + group.count;
    if (!key.there) {
        return key;
    }
    const std::uint64_t position = group.begin + threadIdx.x - group.halo;
    const std::uint64_t index = position / trials.keys.block_size;
    const std::uint64_t token = position % trials.keys.block_size;
    key.block = places.stream_block(static_cast<std::uint32_t>(index));
    key.row = static_cast<std::uint32_t>(1 + key.block * trials.keys.block_size + token);
    key.common = trials.correlated ? commons + 4 * (index - group.first_block) * quads : nullptr;
    const std::uint64_t first = key.block < places.needles ? places.offset[key.block] : 0;
    const bool planted = key.block < places.needles && token >= first && token < first + trials.keys.cluster_size;

    float square = 0.0F;
    float along = 0.0F;
    for (std::uint32_t quad = 0; quad < quads; ++quad) {
        float x[4];
        key.normals(x, quad, trial, trials.keys.key);
        for (std::uint32_t i = 0; i < 4 && 4 * quad + i < dims; ++i) {
            const float common = key.common != nullptr ? key.common[4 * quad + i] : 0.0F;
            along += x[i] * (planted ? shared_quads[quad].coords[i] : common);
            square += x[i] * x[i];
        }
    }
    const KeyRecipe::Share share = !planted         ? trials.recipe.random
                                   : token == first ? trials.recipe.signal
                                                    : trials.recipe.cluster;
    key.own_share = share.across / perpendicular(square, along);
    const float rest = share.along - key.own_share * along;
    key.common_share = planted ? 0.0F : rest;
    key.query_share = planted ? rest : 0.0F;
    return key;
}

/// q.k' of the group's keys, added to the scores of their blocks.
__device__ void add_group(const KeyGroup& group, const Key& key, std::uint64_t trial, const BeyondTrials& trials,
                          float (*rows)[4][kThreads], std::int64_t* scores) {
    const auto dims = static_cast<std::uint32_t>(trials.keys.head_dim);
    const std::uint32_t quads = (dims + 3) / 4;
    const TileConvolution convolution = trials.recipe.convolution;
    const bool counted = threadIdx.x >= group.halo && threadIdx.x < group.halo + group.count;
    float dot = 0.0F;
    for (std::uint32_t quad = 0; quad < quads; ++quad) {
        float(*const row)[kThreads] = rows[quad % 2];
        const float* query = shared_quads[quad].coords;
        float x[4] = {};
        if (key.there) {
            key.normals(x, quad, trial, trials.keys.key);
            for (std::uint32_t i = 0; i < 4; ++i) {
                const float common = key.common != nullptr ? key.common[4 * quad + i] : 0.0F;
                x[i] = key.own_share * x[i] + (key.common_share * common + key.query_share * query[i]);
            }
        }
        for (std::uint32_t i = 0; i < 4; ++i) {
            row[i][threadIdx.x] = x[i];
        }
        __syncthreads();  // the other half is written before anybody comes here again
        for (std::uint32_t i = 0; counted && i < 4 && 4 * quad + i < dims; ++i) {
            float lagged = x[i];
            for (std::int64_t lag = 1; lag < convolution.width; ++lag) {
                lagged += row[i][threadIdx.x - lag];
            }
            lagged = convolution.tap * lagged;
            const float convolved = convolution.width == 0 ? x[i]
                                    : convolution.silu     ? x[i] + silu(lagged)
                                                           : x[i] + lagged;
            dot += convolved * query[i];
        }
    }
    if (counted) {
        const auto steps = static_cast<std::int64_t>(dot * kAffinityScale);
        atomicAdd(reinterpret_cast<unsigned long long*>(scores + key.block), static_cast<unsigned long long>(steps));
    }
    __syncthreads();
}

/// Ranks of the trials of sim/samplers/key_tile_sampler.cc, one trial after the other by a whole thread block, which
/// takes segments as long as there are any. Keys are made twice, once to learn their lengths: cheaper than to keep
/// them.
__global__ void __launch_bounds__(kThreads) tile_trials_kernel(BeyondTrials trials, SegmentList list) {
    __shared__ float rows[2][4][kThreads];
    __shared__ DevicePlaces places;
    __shared__ std::uint32_t target;
    __shared__ std::uint32_t above;
    const auto candidates = static_cast<std::uint32_t>(trials.keys.candidates);
    std::int64_t* scores = trials.scratch + 2 * static_cast<std::size_t>(blockIdx.x) * candidates;
    float* commons =
        reinterpret_cast<float*>(reinterpret_cast<char*>(shared_quads) + vector_operand_bytes(trials.keys.head_dim));
    const std::uint64_t tokens = static_cast<std::uint64_t>(candidates) * trials.keys.block_size;
    for (std::uint32_t s = blockIdx.x; s < list.count; s += gridDim.x) {
        const Segment segment = list.segments[s];
        for (std::uint32_t t = 0; t < segment.trials; ++t) {
            const std::uint64_t trial = segment.first_trial + t;
            if (threadIdx.x == 0) {
                places.draw(trials, trial);
            }
            for (std::uint32_t b = threadIdx.x; b < candidates; b += kThreads) {
                scores[b] = 0;
            }
            VectorKeys::begin_trial(trials.keys, trial);
            __syncthreads();
            for (std::uint64_t begin = 0; begin < tokens;) {
                const KeyGroup group = group_at(begin, tokens, trials);
                if (trials.correlated) {
                    const std::uint64_t last_block = (begin + group.count - 1) / trials.keys.block_size;
                    draw_commons(commons, group.first_block,
                                 static_cast<std::uint32_t>(last_block - group.first_block + 1), trial, trials, places);
                }
                const Key key = make_key(group, trial, trials, places, commons);
                add_group(group, key, trial, trials, rows, scores);
                begin += group.count;
            }
            const std::uint32_t rank = device_goal_rank(scores, trials, places, target, above);
            if (threadIdx.x == 0) {
                count_device_rank(list, segment, rank);
            }
            __syncthreads();
        }
    }
}

}  // namespace

std::size_t tile_shared_bytes(std::int64_t head_dim, bool correlated) {
    const auto quads = static_cast<std::size_t>((head_dim + 3) / 4);
    return vector_operand_bytes(head_dim) + (correlated ? kCommons * 4 * quads * sizeof(float) : 0);
}

cudaError_t launch_tile_trials(const BeyondTrials& trials, const SegmentList& list, std::uint32_t blocks,
                               cudaStream_t stream) {
    const std::size_t bytes = tile_shared_bytes(trials.keys.head_dim, trials.correlated);
    const cudaError_t error =
        cudaFuncSetAttribute(tile_trials_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
    if (error != cudaSuccess) {
        return error;
    }
    tile_trials_kernel<<<blocks, kThreads, bytes, stream>>>(trials, list);
    return cudaGetLastError();
}

}  // namespace mobalab::sim::cuda
