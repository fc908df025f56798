#pragma once

#include <cstdint>

#include "kernels/cuda/lists/list_items.cuh"
#include "kernels/cuda/lists/selected_lists.cuh"

namespace mobalab::kernels::cuda {

template <int Words>
struct alignas(4 * Words) BitRow {
    std::uint32_t word[Words];
};

/// Rank of a query among those of its tile in its list, and their number.
template <int Words>
__device__ __forceinline__ int rank_in_list(const BitRow<Words>& bits, int query, int& total) {
    const BitRow<Words> row = bits;
    int rank = 0;
    total = 0;
#pragma unroll
    for (int w = 0; w < Words; ++w) {
        const int below = query - 32 * w;  // bits of this word that come before the query
        const std::uint32_t before = below >= 32 ? full_warp : below > 0 ? (1u << below) - 1 : 0;
        rank += __popc(row.word[w] & before);
        total += __popc(row.word[w]);
    }
    return rank;
}

/// Shared memory of emit_selected_kernel, for the lists of one range.
struct EmitSelectedShared {
    using Bits = BitRow<2>;
    static constexpr int tile_queries = 64;
    static constexpr std::size_t list_bytes = sizeof(Bits) + sizeof(std::int32_t);
    Bits* bits;          // [lists]: queries of a tile
    std::int32_t* next;  // [lists]: row of the next entry

    __device__ EmitSelectedShared(const ListParams& p, unsigned char* raw)
        : bits(reinterpret_cast<Bits*>(raw)), next(reinterpret_cast<std::int32_t*>(bits + p.plan.lists_per_range)) {}
};

/// Entries and positions of the queries [row0, end) of a segment, at most a tile of them, in the lists of one range.
__device__ __forceinline__ void emit_selected_tile(const ListParams& p, const ListPart& part, const ListRange& range,
                                                   int row0, int end, const EmitSelectedShared& s) {
    const int t = static_cast<int>(threadIdx.x), slots = p.plan.slots;
    const int places = min(end - row0, EmitSelectedShared::tile_queries) * slots;
    std::int32_t* const positions = positions_of(p, part, row0);
    for (int i = t; i < places; i += selected_threads) {
        const std::int32_t packed = positions[i];
        const SelectedList one = SelectedList::of(packed);
        const int query = i / slots;
        if (SelectedList::is_one(packed) && range.holds(one.list)) {
            atomicOr(s.bits[one.list - range.first].word + query / 32, 1u << (query % 32));
        }
    }
    __syncthreads();
    for (int i = t; i < places; i += selected_threads) {
        const std::int32_t packed = positions[i];
        const SelectedList one = SelectedList::of(packed);
        const int query = i / slots;
        if (!SelectedList::is_one(packed) || !range.holds(one.list)) continue;
        int total;
        const int rank = rank_in_list(s.bits[one.list - range.first], query, total);
        const int row = s.next[one.list - range.first] + rank;
        p.entries[row] = static_cast<std::uint32_t>(row0 + query) | (one.mask << 24);
        positions[i] = row;
    }
    __syncthreads();
    for (int list = t; list < range.count; list += selected_threads) {
        s.next[list] += __popc(s.bits[list].word[0]) + __popc(s.bits[list].word[1]);
        s.bits[list] = {};
    }
    __syncthreads();
}

/// What emit_segment() does, from what count_selected_kernel() left in `positions`. Ranges of lists follow one another
/// in one thread block, as what they read there becomes rows.
__device__ __forceinline__ void emit_selected_segment(const ListParams& p, const ListPart& part, int segment,
                                                      unsigned char* raw) {
    const int begin = part.row_begin + segment * p.plan.segment_rows;
    const int end = min(begin + p.plan.segment_rows, part.row_end);
    if (begin >= end) return;
    const EmitSelectedShared s(p, raw);
    for (int first = 0; first < part.lists; first += p.plan.lists_per_range) {
        const ListRange range(p, part, first / p.plan.lists_per_range);
        for (int list = static_cast<int>(threadIdx.x); list < range.count; list += selected_threads) s.bits[list] = {};
        begin_lists(p, part, segment, range, s.next, range.count);
        __syncthreads();
        for (int row0 = begin; row0 < end; row0 += EmitSelectedShared::tile_queries) {
            emit_selected_tile(p, part, range, row0, end, s);
        }
    }
}

/// What emit_kernel does.
static __global__ void __launch_bounds__(selected_threads, 1) emit_selected_kernel(const ListParams p) {
    extern __shared__ __align__(16) unsigned char emit_selected_raw[];
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const int share = static_cast<int>(blockIdx.x) % (p.plan.segments_max + 1);  // of a piece: its items, its segments
    const int piece = static_cast<int>(blockIdx.x) / (p.plan.segments_max + 1);
    const ListPart part(p, piece, static_cast<int>(blockIdx.y));
    if (share == 0) {
        emit_items(p, part, piece, reinterpret_cast<std::int32_t*>(emit_selected_raw));
    } else {
        emit_selected_segment(p, part, share - 1, emit_selected_raw);
    }
}

}  // namespace mobalab::kernels::cuda
