#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/lists/sorted_query.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/tile/block_sum.cuh"

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

/// Shared memory of emit_kernel. Entries are collected in the order of the segment's lists first, so that they leave in
/// runs: single words scattered over memory cost a sector each.
template <int Width>
struct EmitShared {
    using Bits = BitRow<PairShape<Width>::words>;
    Bits* bits;             // [lists]
    std::int32_t* next;     // [lists]: place of the next entry among `staged`
    std::int32_t* shift;    // [lists]: from that place to the row of the chunk
    std::uint32_t* staged;  // [queries of a segment * slots]
    std::uint16_t* list;    // [queries of a segment * slots]: of a staged entry

    static constexpr std::size_t list_bytes = sizeof(Bits) + 2 * sizeof(std::int32_t);
    static constexpr std::size_t pair_bytes = sizeof(std::uint32_t) + sizeof(std::uint16_t);

    __device__ EmitShared(const ListParams& p, unsigned char* raw) {
        bits = reinterpret_cast<Bits*>(raw);
        next = reinterpret_cast<std::int32_t*>(bits + p.plan.lists_per_range);
        shift = next + p.plan.lists_per_range;
        staged = reinterpret_cast<std::uint32_t*>(shift + p.plan.lists_per_range);
        list = reinterpret_cast<std::uint16_t*>(staged + p.plan.segment_rows * p.plan.slots);
    }
};

/// Where the entries of `lists` lists of a segment from `first` on go; returns their number. The caller synchronises.
template <typename Shape, int Width>
__device__ int place_lists(const ListParams& p, const ListPart& part, int segment, int first, int lists,
                           const EmitShared<Width>& s) {
    const int segments = (part.row_end - part.row_begin + p.plan.segment_rows - 1) / p.plan.segment_rows;
    const std::int32_t* offsets = part.segment_counts(p, segment) + first;
    const std::int32_t* ends =
        segment + 1 < segments ? part.segment_counts(p, segment + 1) + first : p.list_count + part.list_index(first);
    int placed = 0;
    for (int j0 = 0; j0 < lists; j0 += Shape::threads) {
        const int j = j0 + static_cast<int>(threadIdx.x);
        const int count = j < lists ? ends[j] - offsets[j] : 0;
        int all;
        const int at = placed + block_exclusive_sum(count, all);
        placed += all;
        if (j >= lists) continue;
        s.bits[j] = {};
        s.next[j] = at;
        s.shift[j] = p.list_begin[part.list_index(first + j)] + offsets[j] - at;
    }
    return placed;
}

/// Ranged: the lists of one of several ranges; positions count those of all.
template <int Width, bool Ranged, int Threads>
__device__ void emit_segment(const ListParams& p, const ListPart& part, int segment, int range_number,
                             unsigned char* raw) {
    using Shape = PairShape<Width, Threads>;
    using Query = typename Shape::Query;
    const int begin = part.row_begin + segment * p.plan.segment_rows;
    const int end = min(begin + p.plan.segment_rows, part.row_end);
    if (begin >= end) return;
    const int t = static_cast<int>(threadIdx.x), lane = t % Query::lanes;
    const unsigned lanes_before = ((1u << lane) - 1) << (t % 32 - lane);  // of the same query
    const unsigned query_lanes = (Query::lanes == 32 ? full_warp : (1u << (Query::lanes % 32)) - 1) << (t % 32 - lane);
    const EmitShared<Width> s(p, raw);
    const ListRange range(p, part, Ranged ? range_number : 0);
    if (Ranged && range_number > 0 && range.count == 0) return;
    const int entries = Ranged ? place_lists<Shape>(p, part, segment, range.first, range.count, s)
                               : place_lists<Shape>(p, part, segment, 0, part.lists, s);
    // Whether an element leads a list of this range, and which of its lists that is.
    const auto leads_here = [&](const typename Query::Leader& one) {
        return one.leads && (!Ranged || range.holds(one.list));
    };
    const auto list_here = [&](const typename Query::Leader& one) { return one.list - (Ranged ? range.first : 0); };
    __syncthreads();
    const int slots = p.plan.slots;
    std::int32_t* positions = p.positions + static_cast<std::int64_t>(part.local_head) * p.chunk.token_count * slots +
                              (static_cast<std::int64_t>(part.sequence.q_begin) - p.chunk.token_begin) * slots;

    TileQueries<Shape> next_tile;
    next_tile.load(p, part, begin, end);
    for (int row0 = begin; row0 < end; row0 += Shape::tile_queries) {
        const TileQueries<Shape> tile = next_tile;
        next_tile.load(p, part, row0 + Shape::tile_queries, end);
        typename Query::Leader leader[Shape::passes][Query::per_lane];
#pragma unroll
        for (int pass = 0; pass < Shape::passes; ++pass) {
            const int query = Shape::query(pass);
            Query(tile.raw[pass], candidates_of(p, part, row0 + query)).leaders(p.list_shift, leader[pass]);
#pragma unroll
            for (int r = 0; r < Query::per_lane; ++r) {
                if (leads_here(leader[pass][r])) {
                    atomicOr(s.bits[list_here(leader[pass][r])].word + query / 32, 1u << (query % 32));
                }
            }
        }
        __syncthreads();
        int after[Shape::passes][Query::per_lane];  // where the list goes on, from its last query in the tile; else -1
#pragma unroll
        for (int pass = 0; pass < Shape::passes; ++pass) {
            const int query = Shape::query(pass), row = row0 + query;
            int leaders = 0;  // of the query, so far
#pragma unroll
            for (int r = 0; r < Query::per_lane; ++r) {
                const auto& mine = leader[pass][r];
                const unsigned leading = __ballot_sync(full_warp, mine.leads);
                after[pass][r] = -1;
                if (leads_here(mine)) {
                    const int list = list_here(mine);
                    int total;
                    const int rank = rank_in_list(s.bits[list], query, total);
                    const int at = s.next[list] + rank;
                    s.staged[at] = static_cast<std::uint32_t>(row) | (mine.mask << 24);
                    s.list[at] = static_cast<std::uint16_t>(list);
                    positions[static_cast<std::int64_t>(row) * slots + leaders + __popc(leading & lanes_before)] =
                        at + s.shift[list];
                    if (rank == total - 1) after[pass][r] = at + 1;
                }
                leaders += __popc(leading & query_lanes);
            }
#pragma unroll
            for (int r = 0; r < Query::per_lane; ++r) {
                const int slot = r * Query::lanes + lane;
                if (row < end && slot >= leaders && slot < slots && (!Ranged || range_number == 0))
                    positions[static_cast<std::int64_t>(row) * slots + slot] = -1;
            }
        }
        __syncthreads();
        // Only what was touched is cleared.
#pragma unroll
        for (int pass = 0; pass < Shape::passes; ++pass) {
#pragma unroll
            for (int r = 0; r < Query::per_lane; ++r) {
                const auto& mine = leader[pass][r];
                if (leads_here(mine)) s.bits[list_here(mine)].word[Shape::query(pass) / 32] = 0;
                if (after[pass][r] >= 0) s.next[list_here(mine)] = after[pass][r];
            }
        }
        __syncthreads();
    }
    for (int i = t; i < entries; i += Threads) p.entries[s.shift[s.list[i]] + i] = s.staged[i];
}

__device__ __forceinline__ void write_items(const ListParams& p, const ListPart& part, int list, std::int64_t at) {
    const int own_begin = part.own_begin(p, list), own_end = part.own_end(p, list);
    const int own_tiles = tiles_of(own_end - own_begin);
    const int rows = p.list_count[part.list_index(list)];
    const int first_row = p.list_begin[part.list_index(list)];
    const int items = items_of(p, own_end - own_begin, rows);
    for (int i = 0; i < items; ++i) {
        const int tile = max(i * p.plan.tiles_per_item - own_tiles, 0);
        const int tile_end = (i + 1) * p.plan.tiles_per_item - own_tiles;
        ListItem item;
        item.sequence = part.b;
        item.head = p.chunk.head_begin + part.local_head;
        item.list = list;
        item.first_row = first_row + tile * list_tile_rows;
        item.rows = max(min(rows, tile_end * list_tile_rows) - tile * list_tile_rows, 0);
        const int own_row = own_begin + i * p.plan.tiles_per_item * list_tile_rows;
        const bool has_own = own_row < own_end;
        item.own_begin = has_own ? own_row : 0;
        item.own_end = has_own ? min(own_row + p.plan.tiles_per_item * list_tile_rows, own_end) : 0;
        item.list_tiles = own_tiles + tiles_of(rows);
        p.items[at + i] = item;
    }
}

/// The items of one piece and the query heads of one key head; `part` is that of the first of these heads in its
/// window.
__device__ __forceinline__ void emit_items(const ListParams& p, const ListPart& part, int piece) {
    const int group = p.plan.heads_q / p.plan.heads_k;
    const int head = p.chunk.head_begin + part.local_head, head_of_window = part.local_head % p.plan.heads_per_window;
    if (head_of_window > 0 && head % group != 0) return;
    const int heads =
        min(min(group - head % group, p.plan.heads_per_window - head_of_window), p.chunk.head_count - part.local_head);
    int at = p.item_begin[part.number];
    for (int j0 = 0; j0 < part.lists; j0 += static_cast<int>(blockDim.x)) {
        const int list = j0 + static_cast<int>(threadIdx.x);
        int items = 0, all;
        if (list < part.lists) {
            const int own = part.own_end(p, list) - part.own_begin(p, list);
            for (int h = 0; h < heads; ++h)
                items += items_of(p, own, p.list_count[part.list_index_of_head(p, list, h)]);
        }
        std::int64_t to = at + block_exclusive_sum(items, all);
        at += all;
        if (list >= part.lists) continue;
        for (int h = 0; h < heads; ++h) {
            const ListPart other(p, piece, part.local_head + h);
            write_items(p, other, list, to);
            to += items_of(p, other.own_end(p, list) - other.own_begin(p, list), p.list_count[other.list_index(list)]);
        }
    }
}

/// Entries, positions, items. Ranged: there are several ranges, blockIdx.z says which.
template <int Width, bool Ranged, int Threads>
__global__ void __launch_bounds__(Threads, Width <= 16 ? 1024 / Threads : 1) emit_kernel(const ListParams p) {
    extern __shared__ __align__(16) unsigned char emit_raw[];
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const int share = static_cast<int>(blockIdx.x) % (p.plan.segments_max + 1);  // of a piece: its items, its segments
    const int piece = static_cast<int>(blockIdx.x) / (p.plan.segments_max + 1);
    const ListPart part(p, piece, static_cast<int>(blockIdx.y));
    const int range = Ranged ? static_cast<int>(blockIdx.z) : 0;
    if (share == 0) {
        if (range == 0) emit_items(p, part, piece);
    } else if (p.plan.slots > 0) {
        emit_segment<Width, Ranged, Threads>(p, part, share - 1, range, emit_raw);
    }
}

}  // namespace mobalab::kernels::cuda
