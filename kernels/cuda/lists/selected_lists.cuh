#pragma once

#include <cstdint>

#include "kernels/cuda/lists/selection_rows.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/warp.cuh"

// Rows of more slots than SortedQuery sorts in registers: bits in shared memory, one for every block a query may
// select, put a row in order, drop what is named twice and join the blocks of a list, whatever the number of slots.
// What is found waits in `positions`, whose slots are the same, until emit_selected_kernel() writes rows there.
namespace mobalab::kernels::cuda {

inline constexpr int selected_threads = 256;
inline constexpr int selected_warps = selected_threads / 32;

/// A list that a query is in and which of its blocks are selected, in one integer that is no row and no -1.
struct SelectedList {
    int list;
    std::uint32_t mask;

    __device__ __forceinline__ std::int32_t packed() const {
        return static_cast<std::int32_t>(0x80000000u | static_cast<std::uint32_t>(list) << 8 | mask);
    }
    static __device__ __forceinline__ SelectedList of(std::int32_t packed) {
        return {static_cast<int>(static_cast<std::uint32_t>(packed) >> 8 & 0x7fffffu),
                static_cast<std::uint32_t>(packed) & 0xffu};
    }
    /// Neither the end of a query's lists nor a row that an earlier range of lists has written.
    static __device__ __forceinline__ bool is_one(std::int32_t packed) { return packed < -1; }
};

/// The slots of a row of the part in `positions`.
__device__ __forceinline__ std::int32_t* positions_of(const ListParams& p, const ListPart& part, int row) {
    const std::int64_t token = static_cast<std::int64_t>(part.sequence.q_begin) + row - p.chunk.token_begin;
    return p.positions + (static_cast<std::int64_t>(part.local_head) * p.chunk.token_count + token) * p.plan.slots;
}

/// One warp: sets the bits of the blocks that a row selects among its candidates.
__device__ __forceinline__ void mark_selected(const std::int32_t* selected, int slots, int candidates,
                                              std::uint32_t* bits) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    for (int word = lane; word < (candidates + 31) / 32; word += 32) bits[word] = 0;
    __syncwarp();
    for (int slot = lane; slot < slots; slot += 32) {
        const auto block = static_cast<std::uint32_t>(__ldg(selected + slot));
        if (block < static_cast<std::uint32_t>(candidates)) atomicOr(bits + block / 32, 1u << (block % 32));
    }
    __syncwarp();
}

/// The lowest bit of every list (of 2^shift bits) that has one set.
__device__ __forceinline__ std::uint32_t lists_of_word(std::uint32_t word, int shift) {
    for (int step = 1; step < 1 << shift; step *= 2) word |= word >> step;
    const std::uint32_t lowest = shift == 0   ? 0xffffffffu
                                 : shift == 1 ? 0x55555555u
                                 : shift == 2 ? 0x11111111u
                                              : 0x01010101u;
    return word & lowest;
}

/// One warp: calls visit(place, SelectedList) for every list that has a bit set, places in the order of the lists;
/// returns their number.
template <typename Visit>
__device__ __forceinline__ int for_each_selected_list(const std::uint32_t* bits, int candidates, int shift,
                                                      const Visit& visit) {
    const int lane = static_cast<int>(threadIdx.x) % 32, words = (candidates + 31) / 32;
    const std::uint32_t mask_of_list = (1u << (1 << shift)) - 1;
    int placed = 0;
    for (int word0 = 0; word0 < words; word0 += 32) {
        const std::uint32_t word = word0 + lane < words ? bits[word0 + lane] : 0;
        std::uint32_t lists = lists_of_word(word, shift);
        const int mine = __popc(lists);
        int sum = mine;
        for (int step = 1; step < 32; step *= 2) {
            const int other = __shfl_up_sync(full_warp, sum, step);
            if (lane >= step) sum += other;
        }
        int place = placed + sum - mine;
        placed += __shfl_sync(full_warp, sum, 31);
        for (; lists != 0; lists &= lists - 1) {
            const int bit = __ffs(static_cast<int>(lists)) - 1;
            visit(place++, SelectedList{((word0 + lane) * 32 + bit) >> shift, word >> bit & mask_of_list});
        }
    }
    return placed;
}

/// What count_kernel does, and the lists of every query. words: of the bits of a query.
static __global__ void __launch_bounds__(selected_threads) count_selected_kernel(const ListParams p, int words) {
    extern __shared__ std::uint32_t selected_bits[];  // [warps][words]
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const int segment = static_cast<int>(blockIdx.x) % p.plan.segments_max;
    const ListPart part(p, static_cast<int>(blockIdx.x) / p.plan.segments_max, static_cast<int>(blockIdx.y));
    if (segment == 0 && threadIdx.x == 0) clear_item_counts(p, part);
    const int begin = part.row_begin + segment * p.plan.segment_rows;
    const int end = min(begin + p.plan.segment_rows, part.row_end);
    if (begin >= end) return;
    std::int32_t* const counts = part.segment_counts(p, segment);
    for (int list = static_cast<int>(threadIdx.x); list < part.lists; list += selected_threads) counts[list] = 0;
    __syncthreads();
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    std::uint32_t* const bits = selected_bits + warp * words;
    for (int row = begin + warp; row < end; row += selected_warps) {
        const int candidates = candidates_of(p, part, row);
        std::int32_t* const found = positions_of(p, part, row);
        mark_selected(selected_blocks(p, part, row), p.plan.slots, candidates, bits);
        const int lists =
            for_each_selected_list(bits, candidates, p.list_shift, [&](int place, const SelectedList& one) {
                found[place] = one.packed();
                atomicAdd(counts + one.list, 1);
            });
        for (int slot = lists + lane; slot < p.plan.slots; slot += 32) found[slot] = -1;
        __syncwarp();
    }
}

}  // namespace mobalab::kernels::cuda
