#include "sim/cuda/key_affinities.cuh"
#include "sim/cuda/launches.h"

namespace mobalab::sim::cuda {
namespace {

constexpr std::uint32_t kTile = 1024;  ///< tokens whose affinities are held at once

/// Ranks of a segment's trials, one trial after the other by the whole thread block.
template <class Keys>
__global__ void __launch_bounds__(kThreads) key_trials_kernel(KeyTrials trials, SegmentList list) {
    __shared__ std::int32_t affinities[kTile];
    __shared__ std::int64_t sums[kTile];
    __shared__ std::uint32_t above_of_warp[kWarps];
    const Segment segment = list.segments[blockIdx.x];
    const std::uint64_t tokens = static_cast<std::uint64_t>(trials.candidates) * trials.block_size;
    const std::uint32_t warp = threadIdx.x / 32;
    const std::uint32_t lane = threadIdx.x % 32;

    for (std::uint32_t t = 0; t < segment.trials; ++t) {
        const std::uint64_t trial = segment.first_trial + t;
        Keys::begin_trial(trials, trial);
        std::int64_t carry = 0;   // of the block the tile began in
        std::int64_t signal = 0;  // score of the signal block, once complete
        std::uint32_t above = 0;
        for (std::uint64_t begin = 0; begin < tokens; begin += kTile) {
            const auto count = static_cast<std::uint32_t>(
                min(static_cast<unsigned long long>(kTile), static_cast<unsigned long long>(tokens - begin)));
            Keys::fill(affinities, count, trials, trial, begin);
            __syncthreads();
            if (begin < trials.cluster_size) {  // the cluster's tokens count through cluster_sum
                for (std::uint32_t i = threadIdx.x; i < count && begin + i < trials.cluster_size; i += kThreads) {
                    affinities[i] = 0;
                }
                __syncthreads();
            }
            // Parts of blocks in this tile: part p belongs to block first_block + p.
            const std::uint64_t first_block = begin / trials.block_size;
            const auto parts = static_cast<std::uint32_t>((begin + count - 1) / trials.block_size - first_block + 1);
            const auto part_begin = [&](std::uint32_t p) {
                const std::uint64_t start = (first_block + p) * trials.block_size;
                return static_cast<std::uint32_t>(start > begin ? start - begin : 0);
            };
            const auto part_end = [&](std::uint32_t p) {
                const std::uint64_t end = (first_block + p + 1) * trials.block_size - begin;
                return static_cast<std::uint32_t>(end < count ? end : count);
            };
            if (trials.block_size < 64) {
                for (std::uint32_t p = threadIdx.x; p < parts; p += kThreads) {
                    std::int64_t sum = 0;
                    for (std::uint32_t i = part_begin(p); i < part_end(p); ++i) {
                        sum += affinities[i];
                    }
                    sums[p] = sum;
                }
            } else {
                for (std::uint32_t p = warp; p < parts; p += kWarps) {
                    std::int64_t sum = 0;
                    for (std::uint32_t i = part_begin(p) + lane; i < part_end(p); i += 32) {
                        sum += affinities[i];
                    }
                    for (int step = 16; step > 0; step /= 2) {
                        sum += __shfl_xor_sync(0xffffffffU, sum, step);
                    }
                    if (lane == 0) {
                        sums[p] = sum;
                    }
                }
            }
            __syncthreads();
            const std::int64_t first_sum = sums[0] + carry;
            const bool last_open = (first_block + parts) * trials.block_size > begin + count;
            if (first_block == 0 && !(parts == 1 && last_open)) {
                signal = first_sum + trials.cluster_sum;
            }
            for (std::uint32_t p = threadIdx.x; p < parts - (last_open ? 1 : 0); p += kThreads) {
                const std::uint64_t block = first_block + p;
                const std::int64_t score = p == 0 ? first_sum : sums[p];
                if (block > 0 && score >= signal) {
                    above += score > signal || block > device_signal_index(trials.key, trial, trials.candidates);
                }
            }
            carry = !last_open ? 0 : parts == 1 ? first_sum : sums[parts - 1];
            __syncthreads();
        }
        above = __reduce_add_sync(0xffffffffU, above);
        if (lane == 0) {
            above_of_warp[warp] = above;
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            std::uint32_t rank = 0;
            for (const std::uint32_t part : above_of_warp) {
                rank += part;
            }
            count_device_rank(list, segment, rank);
        }
        __syncthreads();
    }
}

}  // namespace

cudaError_t launch_vector_trials(const KeyTrials& trials, const SegmentList& list, cudaStream_t stream) {
    const std::size_t bytes = vector_operand_bytes(trials.head_dim);
    const cudaError_t error = cudaFuncSetAttribute(
        key_trials_kernel<VectorKeys>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
    if (error != cudaSuccess) {
        return error;
    }
    key_trials_kernel<VectorKeys><<<list.count, kThreads, bytes, stream>>>(trials, list);
    return cudaGetLastError();
}

cudaError_t launch_affinity_trials(const KeyTrials& trials, const SegmentList& list, cudaStream_t stream) {
    key_trials_kernel<AffinityKeys><<<list.count, kThreads, 0, stream>>>(trials, list);
    return cudaGetLastError();
}

}  // namespace mobalab::sim::cuda
