#include "sim/cuda/key_runs.cuh"
#include "sim/cuda/launches.h"

namespace mobalab::sim::cuda {
namespace {

constexpr std::int64_t kLeast = INT64_MIN;

__device__ std::int64_t warp_max(std::int64_t value) {
    for (int step = 16; step > 0; step /= 2) {
        value = max(value, static_cast<std::int64_t>(__shfl_xor_sync(0xffffffffU, value, step)));
    }
    return value;
}

/// ClusterSlots::place() of sim/samplers/cluster_slots.h, by the whole thread block, which waits before and after.
__device__ void place_cluster(std::int32_t* block, const SubBlockTrials& trials, std::uint64_t trial) {
    const std::uint64_t cluster = trials.keys.cluster_size;
    for (std::uint64_t token = threadIdx.x; token < cluster; token += kThreads) {
        block[token] = token == 0 ? trials.needle : trials.other;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        for (std::uint64_t quad = (cluster + 3) / 4; quad-- > 0;) {
            const Words w = device_philox(trials.keys.key, trial, kSlotDraw + quad);
#pragma unroll
            for (int word = 3; word >= 0; --word) {
                const std::uint64_t i = 4 * quad + static_cast<std::uint64_t>(word);
                if (i < cluster) {
                    const std::uint64_t other = i + ((w.x[word] * (trials.keys.block_size - i)) >> 32U);
                    const std::int32_t moved = block[i];
                    block[i] = block[other];
                    block[other] = moved;
                }
            }
        }
    }
    __syncthreads();
}

/// The score of the signal block, in every thread. `block` has room for its affinities and one more. Ends with all
/// threads past their last look at it.
template <class Keys>
__device__ std::int64_t signal_score(std::int32_t* block, const SubBlockTrials& trials, std::uint64_t trial,
                                     std::int64_t* best_of_warp) {
    Keys::fill(block, static_cast<std::uint32_t>(trials.keys.block_size), trials.keys, trial, 0);
    __syncthreads();
    place_cluster(block, trials, trial);
    const auto width = static_cast<std::uint32_t>(trials.keys.block_size / trials.sub_blocks);
    const std::uint32_t lanes = width < 64 ? 1 : 32;
    std::int64_t best = kLeast;
    for (std::uint32_t sub = threadIdx.x / lanes; sub < trials.sub_blocks; sub += kThreads / lanes) {
        std::int64_t sum = 0;
        for (std::uint32_t i = threadIdx.x % lanes; i < width; i += lanes) {
            sum += block[sub * width + i];
        }
        for (std::uint32_t step = lanes / 2; step > 0; step /= 2) {  // a warp has one sub-block where there are steps
            sum += __shfl_xor_sync(0xffffffffU, sum, step);
        }
        best = max(best, sum);
    }
    best = warp_max(best);
    if (threadIdx.x % 32 == 0) {
        best_of_warp[threadIdx.x / 32] = best;
    }
    __syncthreads();
    for (std::uint32_t warp = 0; warp < kWarps; ++warp) {
        best = max(best, best_of_warp[warp]);
    }
    return best;
}

/// Noise blocks above the signal block in one trial, as far as this thread has seen them. A block is seen by one thread
/// or, where it has many sub-blocks, by one warp.
class SubBlockRank {
public:
    /// `open_best` is shared: the best sub-block so far of the block that goes on in the next tile, in element 0 or 1
    /// in turn, so that nobody writes what another still reads. Element 0 is kLeast at first.
    __device__ SubBlockRank(const SubBlockTrials& trials, std::uint64_t trial, std::int64_t signal,
                            std::int64_t* open_best)
        : trials_(trials), trial_(trial), signal_(signal), open_best_(open_best) {}

    /// The sums of a tile's parts. The whole thread block waits between this and its next tile.
    __device__ void take(const Tile& tile, const std::int64_t* sums) {
        const std::uint64_t sub_blocks = trials_.sub_blocks;
        const std::int64_t first_sum = sums[0] + carry_;
        const bool open = tile.last_open();
        const std::uint64_t closed = tile.parts - (open ? 1 : 0);
        const std::uint64_t first_block = tile.first_run / sub_blocks;
        const std::uint64_t last_block = (tile.first_run + tile.parts - 1) / sub_blocks;
        const std::uint32_t lanes = sub_blocks < 64 ? 1 : 32;
        const std::uint32_t lane = threadIdx.x % lanes;
        for (std::uint64_t block = first_block + threadIdx.x / lanes; block <= last_block; block += kThreads / lanes) {
            const std::uint64_t start = block * sub_blocks;
            const std::uint64_t from = start > tile.first_run ? start - tile.first_run : 0;
            const std::uint64_t end = start + sub_blocks - tile.first_run;
            std::int64_t best = block == first_block ? open_best_[turn_] : kLeast;
            for (std::uint64_t part = from + lane; part < end && part < closed; part += lanes) {
                best = max(best, part == 0 ? first_sum : sums[part]);
            }
            best = lanes == 32 ? warp_max(best) : best;
            if (lane == 0) {
                close(block, best, end <= closed, block == last_block);
            }
        }
        carry_ = !open ? 0 : tile.parts == 1 ? first_sum : sums[tile.parts - 1];
        turn_ ^= 1U;
    }

    __device__ std::uint32_t above() const { return above_; }

private:
    __device__ void close(std::uint64_t block, std::int64_t best, bool complete, bool last) {
        if (last) {
            open_best_[turn_ ^ 1U] = complete ? kLeast : best;
        }
        if (complete && block > 0 && best >= signal_) {
            above_ += best > signal_ || block > device_signal_index(trials_.keys.key, trial_, trials_.keys.candidates);
        }
    }

    const SubBlockTrials& trials_;
    std::uint64_t trial_;
    std::int64_t signal_;
    std::int64_t* open_best_;
    std::uint32_t turn_ = 0;
    std::int64_t carry_ = 0;  ///< of the sub-block the tile began in
    std::uint32_t above_ = 0;
};

/// Ranks of the trials of sim/samplers/sub_block_sampler.cc, one trial after the other by a whole thread block, which
/// takes segments as long as there are any.
template <class Keys>
__global__ void __launch_bounds__(kThreads) sub_block_trials_kernel(SubBlockTrials trials, SegmentList list) {
    __shared__ std::int32_t affinities[kTile];
    __shared__ std::int64_t sums[kTile];
    __shared__ std::uint32_t above_of_warp[kWarps];
    __shared__ std::int64_t best_of_warp[kWarps];
    __shared__ std::int64_t open_best[2];
    const std::uint64_t block_size = trials.keys.block_size;
    const std::uint64_t width = block_size / trials.sub_blocks;
    const std::uint64_t tokens = static_cast<std::uint64_t>(trials.keys.candidates) * block_size;
    std::int32_t* signal_block =
        block_size <= kTile ? affinities : trials.scratch + blockIdx.x * (static_cast<std::size_t>(block_size) + 1);
    for (std::uint32_t s = blockIdx.x; s < list.count; s += gridDim.x) {
        const Segment segment = list.segments[s];
        for (std::uint32_t t = 0; t < segment.trials; ++t) {
            const std::uint64_t trial = segment.first_trial + t;
            if (threadIdx.x == 0) {
                open_best[0] = kLeast;
            }
            Keys::begin_trial(trials.keys, trial);
            SubBlockRank rank(trials, trial, signal_score<Keys>(signal_block, trials, trial, best_of_warp), open_best);
            // Two tokens share their words, so tiles begin at even ones: an odd block's last key is seen again, and is
            // block 0's, which does not count.
            for (std::uint64_t begin = block_size / 2 * 2; begin < tokens; begin += kTile) {
                const Tile tile(width, begin, tokens);
                Keys::fill(affinities, tile.count, trials.keys, trial, begin);
                __syncthreads();
                sum_parts(sums, affinities, tile);
                __syncthreads();
                rank.take(tile, sums);
                __syncthreads();
            }
            const std::uint32_t sum = sum_of_threads(rank.above(), above_of_warp);
            if (threadIdx.x == 0) {
                count_device_rank(list, segment, sum);
            }
            __syncthreads();
        }
    }
}

}  // namespace

cudaError_t launch_sub_block_trials(const SubBlockTrials& trials, bool vectors, const SegmentList& list,
                                    std::uint32_t blocks, cudaStream_t stream) {
    if (!vectors) {
        sub_block_trials_kernel<AffinityKeys><<<blocks, kThreads, 0, stream>>>(trials, list);
        return cudaGetLastError();
    }
    const std::size_t bytes = vector_operand_bytes(trials.keys.head_dim);
    const cudaError_t error = cudaFuncSetAttribute(
        sub_block_trials_kernel<VectorKeys>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
    if (error != cudaSuccess) {
        return error;
    }
    sub_block_trials_kernel<VectorKeys><<<blocks, kThreads, bytes, stream>>>(trials, list);
    return cudaGetLastError();
}

}  // namespace mobalab::sim::cuda
