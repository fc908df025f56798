#pragma once

#include <cstdint>

#include "kernels/cuda/routing/route_work.cuh"
#include "kernels/cuda/routing/top_k_key.cuh"

// The rows of a warp: which columns of a tile are theirs, and where their lists go. Shape: of the kernel, with rows,
// tile_blocks, scoring and the list TopK.
namespace mobalab::kernels::cuda {

static_assert(route_warp_rows == warp_rows);

/// Columns that are no candidate of their row become -inf.
template <int Count>
__device__ __forceinline__ void route_mask(float (&d)[Count], int first_column, int candidates0, int candidates1) {
#pragma unroll
    for (int i = 0; i < Count; i += 4) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            const int column = first_column + 2 * i + e;
            d[i + e] = column < candidates0 ? d[i + e] : -INFINITY;
            d[i + 2 + e] = column < candidates1 ? d[i + 2 + e] : -INFINITY;
        }
    }
}

/// Writes the slots of a warp's rows, each of the list behind that of block 0, if there is one: one contiguous run of
/// integers. top: null where no row has a list.
template <typename Shape, bool KeepFirst>
__device__ __forceinline__ void route_store_rows(const RouteParams& p, const RouteItem<Shape>& item,
                                                 const typename Shape::TopK* top, int row0, int lane) {
    const int rows = min(warp_rows, item.sequence.sq - row0);
    const int row_slots = KeepFirst ? p.slots + 1 : p.slots;
    const std::int64_t at = (item.head * p.tokens_q + item.sequence.q_begin + row0) * row_slots;
    if (KeepFirst && lane < rows) {
        const bool is_candidate = item.candidate_blocks(p, row0 + lane) > 0;
        p.selection[at + lane * row_slots] = is_candidate ? 0 : -1;
        if (p.scores != nullptr) p.scores[at + lane * row_slots] = is_candidate ? INFINITY : -INFINITY;
    }
    for (int i = lane; i < rows * p.slots; i += 32) {
        const int row = static_cast<int>((static_cast<std::uint32_t>(i) * p.slots_inverse) >> 20);
        const int slot = i - row * p.slots;
        int block = top == nullptr ? -1 : top->final_block(row, slot);
        if constexpr (Shape::scoring == Scoring::best_of_group) block >>= p.sub_shift;  // -1 stays
        if (KeepFirst && block >= 0) ++block;                                           // column 0 is block 1
        const int to = KeepFirst ? i + row + 1 : i;
        p.selection[at + to] = block;
        if (p.scores != nullptr) p.scores[at + to] = top == nullptr ? -INFINITY : top->final_score(row, slot);
    }
}

/// Two loops, so that one does not pay for the other.
template <typename Shape>
__device__ __forceinline__ void route_store(const RouteParams& p, const RouteItem<Shape>& item,
                                            const typename Shape::TopK* top, int row0, int lane) {
    if (p.first_block == 0) {
        route_store_rows<Shape, false>(p, item, top, row0, lane);
    } else {
        route_store_rows<Shape, true>(p, item, top, row0, lane);
    }
}

}  // namespace mobalab::kernels::cuda
