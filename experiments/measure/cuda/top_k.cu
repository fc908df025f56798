#include "experiments/measure/cuda/top_k.h"

#include "experiments/measure/cuda/by_head_dim.h"
#include "experiments/measure/cuda/ranked.cuh"

namespace mobalab::experiments::cuda {
namespace {

using kernels::cuda::full_warp;

/// The best of blocks [begin, end) below `below`, in every lane; 0: there is none.
__device__ __forceinline__ Ranked best_below(const float* scores, int begin, int end, Ranked below, int lane) {
    Ranked best = 0;
    for (int block = begin + lane; block < end; block += 32) {
        const auto tie = static_cast<std::uint32_t>(block);
        const Ranked key = ranked(scores == nullptr ? static_cast<float>(block) : scores[block], tie);
        if (key < below) best = max(best, key);
    }
    return warp_max(best);
}

/// Each lane knows the best that is left of one stretch of the row, and the warp looks through the winner's again.
__global__ void __launch_bounds__(row_threads) top_k_kernel(const __grid_constant__ TopKArgs args) {
    const int row = row_of_warp(), lane = lane_of_thread();
    if (row >= args.window.rows) return;
    const int candidates = (args.window.position + row) / args.block_size;
    const float* const scores =
        args.scores == nullptr ? nullptr : args.scores + static_cast<std::int64_t>(row) * args.blocks;
    std::int32_t* const selection = args.selection + static_cast<std::int64_t>(row) * args.slots;
    int slot = 0, begin = 0;
    if (args.keep_first && candidates > 0 && args.slots > 0) {
        if (lane == 0) selection[0] = 0;
        slot = begin = 1;
    }
    constexpr Ranked all = ~Ranked{0};
    const int stretch = max(32, (candidates - begin + 31) / 32);
    Ranked mine = 0;
    for (int i = 0; i < 32 && begin + i * stretch < candidates; ++i) {
        const int from = begin + i * stretch;
        const Ranked best = best_below(scores, from, min(from + stretch, candidates), all, lane);
        if (lane == i) mine = best;
    }
    for (; slot < args.slots; ++slot) {
        const Ranked best = warp_max(mine);
        if (best == 0) break;
        const int block = static_cast<int>(ranked_tie(best)), winner = (block - begin) / stretch;
        const int from = begin + winner * stretch;
        const Ranked next = best_below(scores, from, min(from + stretch, candidates), best, lane);
        if (lane == winner) mine = next;
        if (lane == 0) selection[slot] = block;
    }
    for (slot += lane; slot < args.slots; slot += 32) selection[slot] = -1;
}

}  // namespace

cudaError_t launch_top_k(const TopKArgs& args, cudaStream_t stream) {
    if (args.window.rows == 0 || args.slots == 0) return cudaSuccess;
    return launch(top_k_kernel, dim3(pieces(args.window.rows, rows_a_block)), row_threads, 0, stream, args);
}

}  // namespace mobalab::experiments::cuda
