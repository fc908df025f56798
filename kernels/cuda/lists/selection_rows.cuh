#pragma once

#include <cstdint>

#include "kernels/cuda/lists/list_part.cuh"
#include "kernels/cuda/lists/pair_shape.h"
#include "kernels/cuda/ptx/copy.cuh"

namespace mobalab::kernels::cuda {

/// Where the selected blocks of a row of the part begin.
__device__ __forceinline__ const std::int32_t* selected_blocks(const ListParams& p, const ListPart& part, int row) {
    const std::int64_t head = p.chunk.head_begin + part.local_head;
    return p.selection + (head * p.plan.tokens_q + part.sequence.q_begin + row) * p.plan.slots;
}

/// Blocks that a row may select.
__device__ __forceinline__ int candidates_of(const ListParams& p, const ListPart& part, int row) {
    return p.plan.blocks.of_row(part.sequence, row);
}

/// Rows of a selection on their way to shared memory, a tile a warp: whole lines, whatever the slots.
class SelectionRows {
public:
    __device__ __forceinline__ explicit SelectionRows(int slots)
        : slots_(slots), reciprocal_((1u << reciprocal_bits) / static_cast<std::uint32_t>(slots) + 1) {}

    __device__ __forceinline__ int stride() const { return row_stride(slots_); }

    /// Enqueues the copy of `rows` rows, at most a tile and none if not positive, as one group of the thread's copies.
    /// `to` begins at a multiple of 16 bytes.
    __device__ __forceinline__ void load(const std::int32_t* selected, int rows, std::uint32_t* to) const {
        const int pairs = min(rows, tile_queries) * slots_, lane = static_cast<int>(threadIdx.x) % 32;
        if (slots_ % 2 != 0 && pairs % 4 == 0 && reinterpret_cast<std::uintptr_t>(selected) % 16 == 0) {
            for (int i = 4 * lane; i < pairs; i += 128) ptx::cp_async_16(to + i, selected + i);
        } else {
#pragma unroll 1
            for (int i = lane; i < pairs; i += 32) {
                // Rows stand a word apart where their slots are even.
                const int apart = slots_ % 2 == 0
                                      ? static_cast<int>(static_cast<std::uint32_t>(i) * reciprocal_ >> reciprocal_bits)
                                      : 0;
                ptx::cp_async_4(to + i + apart, selected + i);
            }
        }
        ptx::cp_async_commit();
    }

    /// Asks for `rows` rows to be in L2, by all threads of the thread block; none if not positive.
    __device__ __forceinline__ void prefetch(const std::int32_t* selected, int rows) const {
        constexpr int words = 32;  // of a line
        const int t = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
        for (int i = t * words; i < rows * slots_; i += threads * words) ptx::prefetch_l2(selected + i);
    }

private:
    // i / slots of all i < tile_queries * most_sorted_slots: the error i / 2^20 is less than 1 / slots.
    static constexpr int reciprocal_bits = 20;
    static_assert(tile_queries * most_sorted_slots * most_sorted_slots < 1 << reciprocal_bits);

    int slots_;
    std::uint32_t reciprocal_;
};

}  // namespace mobalab::kernels::cuda
