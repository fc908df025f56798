#include "experiments/measure/cuda/route_outcomes.h"

#include <cmath>

#include "experiments/measure/cuda/by_head_dim.h"
#include "experiments/measure/cuda/ranked.cuh"

namespace mobalab::experiments::cuda {
namespace {

using kernels::cuda::full_warp;

constexpr int most_slots = 64;  // two a lane

/// The slots of a row, lane i has those of i and i + 32; -1: none.
struct Slots {
    std::int32_t block[2];

    __device__ __forceinline__ Slots(const Chosen& chosen, int row, int lane) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int slot = lane + 32 * i;
            block[i] = slot < chosen.slots ? chosen.blocks[static_cast<std::int64_t>(row) * chosen.stride + slot] : -1;
        }
    }
    /// In every lane; the same `slot` in all of them.
    __device__ __forceinline__ std::int32_t at(int slot) const {
        return __shfl_sync(full_warp, slot < 32 ? block[0] : block[1], slot % 32);
    }
};

/// A row's set of blocks as bits in shared memory.
class BlockSet {
public:
    __device__ __forceinline__ BlockSet(std::uint32_t* words, int blocks, const Slots& slots, int lane)
        : words_(words) {
        for (int word = lane; word < (blocks + 31) / 32; word += 32) words_[word] = 0;
        __syncwarp();
#pragma unroll
        for (const std::int32_t block : slots.block) {
            if (block >= 0 && block < blocks) atomicOr(words_ + block / 32, 1U << (block % 32));
        }
        __syncwarp();
    }
    __device__ __forceinline__ bool holds(int block) const {
        return ((words_[block / 32] >> (block % 32)) & 1U) != 0U;
    }

private:
    std::uint32_t* words_;
};

/// RowOutcomes::margin before the division by the deviation.
__device__ __forceinline__ float margin_of(const RouteOutcomesArgs& args, int row, int candidates, const Slots& slots,
                                           std::uint32_t* words, int lane) {
    const float* const scores = args.scores + static_cast<std::int64_t>(row) * args.blocks;
    const float first_extra = args.score_is_mass ? args.first_key_mass[row] : 0.0F;
    const auto score = [&](int block) { return block == 0 ? scores[0] + first_extra : scores[block]; };
    const BlockSet routed(words, candidates, slots, lane);
    float best = -INFINITY;
    for (int block = lane; block < candidates; block += 32) {
        if (!routed.holds(block)) best = fmaxf(best, score(block));
    }
    best = warp_max(best);
    const int last = args.chosen.slots > (args.keep_first ? 1 : 0) ? slots.at(args.chosen.slots - 1) : -1;
    return last < 0 || best == -INFINITY ? NAN : score(last) - best;
}

__global__ void __launch_bounds__(row_threads) route_outcomes_kernel(const __grid_constant__ RouteOutcomesArgs args) {
    extern __shared__ std::uint32_t sets[];
    const int row = row_of_warp(), lane = lane_of_thread();
    if (row >= args.window.rows) return;
    const int candidates = (args.window.position + row) / args.block_size;
    const Slots slots(args.chosen, row, lane);
    float mass = 0.0F;
    bool first = false;
#pragma unroll
    for (const std::int32_t block : slots.block) {
        if (block < 0 || block >= candidates) continue;
        mass += args.mass[static_cast<std::int64_t>(row) * args.blocks + block];
        first |= block == 0;
    }
    mass = warp_sum(mass);
    first = __any_sync(full_warp, first);
    float margin = NAN;
    if (args.scores != nullptr) {
        std::uint32_t* const words = sets + static_cast<int>(threadIdx.x) / 32 * ((args.blocks + 31) / 32);
        margin = margin_of(args, row, candidates, slots, words, lane) / args.deviation[row];
    }
    if (lane == 0) {
        args.routed_mass[row] = mass + (first ? args.first_key_mass[row] : 0.0F);
        args.routed_mass_no0[row] = mass;
        if (args.scores != nullptr) args.margin[row] = margin;
    }
}

__global__ void __launch_bounds__(row_threads) set_difference_kernel(const __grid_constant__ SetDifferenceArgs args) {
    const int row = row_of_warp(), lane = lane_of_thread();
    if (row >= args.rows) return;
    const Slots a(args.a, row, lane), b(args.b, row, lane);
    // Rows have as many blocks in both, so the sets are the same when all of a are in b.
    bool found[2] = {a.block[0] < 0, a.block[1] < 0};
    for (int slot = 0; slot < args.b.slots; ++slot) {
        const std::int32_t block = b.at(slot);
        found[0] |= a.block[0] == block;
        found[1] |= a.block[1] == block;
    }
    const bool same = __all_sync(full_warp, found[0] && found[1]);
    if (lane == 0) args.differ[row] = same ? 0 : 1;
}

}  // namespace

cudaError_t launch_route_outcomes(const RouteOutcomesArgs& args, cudaStream_t stream) {
    if (args.window.rows == 0) return cudaSuccess;
    if (args.chosen.slots > most_slots) return cudaErrorInvalidValue;
    const std::size_t set_bytes =
        args.scores == nullptr ? 0 : static_cast<std::size_t>((args.blocks + 31) / 32) * 4 * rows_a_block;
    return launch(route_outcomes_kernel, dim3(pieces(args.window.rows, rows_a_block)), row_threads, set_bytes, stream,
                  args);
}

cudaError_t launch_set_difference(const SetDifferenceArgs& args, cudaStream_t stream) {
    if (args.rows == 0) return cudaSuccess;
    if (args.a.slots > most_slots || args.b.slots != args.a.slots) return cudaErrorInvalidValue;
    return launch(set_difference_kernel, dim3(pieces(args.rows, rows_a_block)), row_threads, 0, stream, args);
}

}  // namespace mobalab::experiments::cuda
