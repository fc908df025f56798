#pragma once

#include <cstdint>

#include "kernels/cuda/lists/list_part.cuh"
#include "kernels/cuda/tile/block_sum.cuh"

namespace mobalab::kernels::cuda {

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

}  // namespace mobalab::kernels::cuda
