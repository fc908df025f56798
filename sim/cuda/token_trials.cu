#include "sim/cuda/key_affinities.cuh"
#include "sim/cuda/launches.h"
#include "sim/cuda/needle_places.cuh"

namespace mobalab::sim::cuda {
namespace {

constexpr std::uint32_t kTile = 1024;  ///< tokens whose affinities are held at once

/// TokenScores::with_common: `own` of random keys with this total weight, their block's common component added.
__device__ std::int64_t with_common(const BeyondTrials& trials, std::uint64_t trial, std::uint32_t block,
                                    std::int64_t own, std::uint64_t weight) {
    if (!trials.correlated) {
        return own;
    }
    const Words w = device_philox(trials.keys.key, trial, kCommonDraw + block / 2);
    const bool second = block % 2 != 0;
    const auto common =
        static_cast<double>(affinity(second ? w.x[2] : w.x[0], second ? w.x[3] : w.x[1], trials.common_exponent));
    const double y = common * 0x1p-30;
    const double length = sqrt(trials.own_share * (1.0 - y * y));
    return static_cast<std::int64_t>(trials.common_share * (static_cast<double>(weight) * common) +
                                     length * static_cast<double>(own));
}

/// Weight of a token of its block in T (sim/samplers/token_scores.h).
__device__ std::uint64_t tail_weight(const BeyondTrials& trials, std::uint64_t token) {
    const std::uint64_t first = trials.keys.block_size - trials.width;
    return trials.width > 0 && token > first ? token - first : 0;
}

/// Adds tokens [begin, begin + count) of the stream to the sums of their blocks; a part of a block by one thread or, of
/// long blocks, by one warp.
__device__ void add_tile(const std::int32_t* affinities, std::uint64_t begin, std::uint32_t count,
                         const BeyondTrials& trials, const DevicePlaces& places, std::int64_t* sums,
                         std::int64_t* tails) {
    const std::uint64_t block_size = trials.keys.block_size;
    const std::uint64_t first_block = begin / block_size;
    const auto parts = static_cast<std::uint32_t>((begin + count - 1) / block_size - first_block + 1);
    const std::uint32_t lanes = block_size < 64 ? 1 : 32;
    const std::uint32_t lane = threadIdx.x % lanes;
    for (std::uint32_t p = threadIdx.x / lanes; p < parts; p += kThreads / lanes) {
        const std::uint64_t block = first_block + p;
        const std::uint64_t start = block * block_size;
        const std::uint64_t from = start > begin ? start - begin : 0;
        const std::uint64_t to = min(start + block_size - begin, static_cast<std::uint64_t>(count));
        std::int64_t sum = 0;
        std::int64_t tail = 0;
        for (std::uint64_t i = from + lane; i < to; i += lanes) {
            const std::uint64_t token = begin + i - start;
            const bool planted = block < places.needles && token >= places.offset[block] &&
                                 token < places.offset[block] + trials.keys.cluster_size;
            const std::int64_t w = planted ? 0 : affinities[i];
            sum += w;
            tail += static_cast<std::int64_t>(tail_weight(trials, token)) * w;
        }
        for (std::uint32_t step = lanes / 2; step > 0; step /= 2) {
            sum += __shfl_xor_sync(0xffffffffU, sum, step);
            tail += __shfl_xor_sync(0xffffffffU, tail, step);
        }
        if (lane == 0) {
            sums[block] += sum;
            tails[block] += tail;
        }
    }
}

/// A and T of a block from its sums of w.
__device__ void close_block(std::uint32_t block, std::uint64_t trial, const BeyondTrials& trials,
                            const DevicePlaces& places, std::int64_t* sums, std::int64_t* tails) {
    const bool needle = block < places.needles;
    const std::uint64_t planted_keys = needle ? trials.keys.cluster_size : 0;
    sums[block] = with_common(trials, trial, block, sums[block], trials.keys.block_size - planted_keys) +
                  (needle ? trials.keys.cluster_sum : 0);
    std::uint64_t random_weight = static_cast<std::uint64_t>(trials.width) * (trials.width - 1) / 2;
    std::int64_t planted = 0;
    for (std::uint32_t r = 0; needle && r + 1 < trials.width; ++r) {  // the last tokens, newest first
        const std::uint64_t token = trials.keys.block_size - 1 - r;
        const std::uint64_t first = places.offset[block];
        if (token >= first && token < first + trials.keys.cluster_size) {
            const std::uint64_t weight = tail_weight(trials, token);
            random_weight -= weight;
            planted += static_cast<std::int64_t>(weight) * (token == first ? trials.mu_signal : trials.mu_cluster);
        }
    }
    if (trials.width > 0) {
        tails[block] = with_common(trials, trial, block, tails[block], random_weight) + planted;
    }
}

/// Ranks of the trials of sim/samplers/token_scores.h, one trial after the other by a whole thread block, which takes
/// segments as long as there are any.
template <class Keys>
__global__ void __launch_bounds__(kThreads) token_trials_kernel(BeyondTrials trials, SegmentList list) {
    __shared__ std::int32_t affinities[kTile];
    __shared__ DevicePlaces places;
    __shared__ std::uint32_t target;
    __shared__ std::uint32_t above;
    const auto candidates = static_cast<std::uint32_t>(trials.keys.candidates);
    std::int64_t* sums = trials.scratch + 2 * static_cast<std::size_t>(blockIdx.x) * candidates;
    std::int64_t* tails = sums + candidates;
    const std::uint64_t tokens = static_cast<std::uint64_t>(candidates) * trials.keys.block_size;
    for (std::uint32_t s = blockIdx.x; s < list.count; s += gridDim.x) {
        const Segment segment = list.segments[s];
        for (std::uint32_t t = 0; t < segment.trials; ++t) {
            const std::uint64_t trial = segment.first_trial + t;
            if (threadIdx.x == 0) {
                places.draw(trials, trial);
            }
            for (std::uint32_t b = threadIdx.x; b < 2 * candidates; b += kThreads) {
                sums[b] = 0;
            }
            Keys::begin_trial(trials.keys, trial);
            __syncthreads();
            for (std::uint64_t begin = 0; begin < tokens; begin += kTile) {
                const auto count = static_cast<std::uint32_t>(min(static_cast<std::uint64_t>(kTile), tokens - begin));
                Keys::fill(affinities, count, trials.keys, trial, begin);
                __syncthreads();
                add_tile(affinities, begin, count, trials, places, sums, tails);
                __syncthreads();
            }
            for (std::uint32_t b = threadIdx.x; b < candidates; b += kThreads) {
                close_block(b, trial, trials, places, sums, tails);
            }
            __syncthreads();
            for (std::uint32_t b = threadIdx.x; trials.width > 0 && b < candidates; b += kThreads) {
                const std::uint32_t index = places.index_of(b);
                const std::int64_t previous = index > 0 ? tails[places.stream_block(index - 1)] : 0;
                const std::int64_t lagged = static_cast<std::int64_t>(trials.width) * sums[b] - tails[b] + previous;
                sums[b] += static_cast<std::int64_t>(trials.tap * static_cast<double>(lagged));
            }
            __syncthreads();
            const std::uint32_t rank = device_goal_rank(sums, trials, places, target, above);
            if (threadIdx.x == 0) {
                count_device_rank(list, segment, rank);
            }
            __syncthreads();
        }
    }
}

}  // namespace

cudaError_t launch_token_trials(const BeyondTrials& trials, bool vectors, const SegmentList& list, std::uint32_t blocks,
                                cudaStream_t stream) {
    if (!vectors) {
        token_trials_kernel<AffinityKeys><<<blocks, kThreads, 0, stream>>>(trials, list);
        return cudaGetLastError();
    }
    const std::size_t bytes = vector_operand_bytes(trials.keys.head_dim);
    const cudaError_t error = cudaFuncSetAttribute(
        token_trials_kernel<VectorKeys>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
    if (error != cudaSuccess) {
        return error;
    }
    token_trials_kernel<VectorKeys><<<blocks, kThreads, bytes, stream>>>(trials, list);
    return cudaGetLastError();
}

}  // namespace mobalab::sim::cuda
