#include "sim/cuda/key_runs.cuh"
#include "sim/cuda/launches.h"

namespace mobalab::sim::cuda {
namespace {

/// The cluster's tokens count through cluster_sum.
__device__ void clear_cluster(std::int32_t* affinities, const KeyTrials& trials, const Tile& tile) {
    if (tile.begin < trials.cluster_size) {
        for (std::uint32_t i = threadIdx.x; i < tile.count && tile.begin + i < trials.cluster_size; i += kThreads) {
            affinities[i] = 0;
        }
        __syncthreads();
    }
}

/// Noise blocks above the signal block in one trial, as far as this thread has seen them.
class TrialRank {
public:
    __device__ TrialRank(const KeyTrials& trials, std::uint64_t trial) : trials_(trials), trial_(trial) {}

    __device__ void take(const Tile& tile, const std::int64_t* sums) {
        const std::int64_t first_sum = sums[0] + carry_;
        const bool open = tile.last_open();
        if (tile.first_run == 0 && !(tile.parts == 1 && open)) {
            signal_ = first_sum + trials_.cluster_sum;
        }
        for (std::uint32_t p = threadIdx.x; p < tile.parts - (open ? 1 : 0); p += kThreads) {
            const std::uint64_t block = tile.first_run + p;
            const std::int64_t score = p == 0 ? first_sum : sums[p];
            if (block > 0 && score >= signal_) {
                above_ += score > signal_ || block > device_signal_index(trials_.key, trial_, trials_.candidates);
            }
        }
        carry_ = !open ? 0 : tile.parts == 1 ? first_sum : sums[tile.parts - 1];
    }

    __device__ std::uint32_t above() const { return above_; }

private:
    const KeyTrials& trials_;
    std::uint64_t trial_;
    std::int64_t carry_ = 0;   // of the block the tile began in
    std::int64_t signal_ = 0;  // score of the signal block, once complete
    std::uint32_t above_ = 0;
};

/// Ranks of a segment's trials, one trial after the other by the whole thread block.
template <class Keys>
__global__ void __launch_bounds__(kThreads) key_trials_kernel(KeyTrials trials, SegmentList list) {
    __shared__ std::int32_t affinities[kTile];
    __shared__ std::int64_t sums[kTile];
    __shared__ std::uint32_t above_of_warp[kWarps];
    const Segment segment = list.segments[blockIdx.x];
    const std::uint64_t tokens = static_cast<std::uint64_t>(trials.candidates) * trials.block_size;
    for (std::uint32_t t = 0; t < segment.trials; ++t) {
        const std::uint64_t trial = segment.first_trial + t;
        Keys::begin_trial(trials, trial);
        TrialRank rank(trials, trial);
        for (std::uint64_t begin = 0; begin < tokens; begin += kTile) {
            const Tile tile(trials.block_size, begin, tokens);
            Keys::fill(affinities, tile.count, trials, trial, begin);
            __syncthreads();
            clear_cluster(affinities, trials, tile);
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
