#pragma once

#include <cstdint>

#include "kernels/cuda/lists/list_part.cuh"
#include "kernels/cuda/lists/list_rows.cuh"
#include "kernels/cuda/tile/block_sum.cuh"

namespace mobalab::kernels::cuda {

/// Items of the parts below `number`; every thread of the thread block calls it.
__device__ __forceinline__ int items_before(const ListParams& p, int number) {
    const ListPlan& plan = p.plan;
    const int t = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    const int groups = number / parts_per_group;
    int sum = 0, all;
    for (int i = t; i < groups; i += threads) sum += p.item_count_of_group[i];
    for (int i = groups * parts_per_group + t; i < number; i += threads) {
        const int head_window = i / plan.heads_per_window / plan.pieces, head = i % plan.heads_per_window;
        if (head_window * plan.heads_per_window + head < p.chunk.head_count) sum += p.item_count[i];
    }
    block_exclusive_sum(sum, all);
    return all;
}

/// A list of one query head, which is written by one thread.
struct ListOfHead {
    int list, first_row, rows;
};

__device__ __forceinline__ void write_items(const ListParams& p, const ListPart& part, const ListOfHead& one, int at) {
    const int own_begin = part.own_begin(p, one.list), own_end = part.own_end(p, one.list);
    const int own_tiles = tiles_of(own_end - own_begin), rows = one.rows;
    const int items = items_of(p, own_end - own_begin, rows);
    for (int i = 0; i < items; ++i) {
        const int tile = max(i * p.plan.tiles_per_item - own_tiles, 0);
        const int tile_end = (i + 1) * p.plan.tiles_per_item - own_tiles;
        ListItem item;
        item.sequence = part.b;
        item.head = p.chunk.head_begin + part.local_head;
        item.list = one.list;
        item.first_row = one.first_row + tile * list_tile_rows;
        item.rows = max(min(rows, tile_end * list_tile_rows) - tile * list_tile_rows, 0);
        const int own_row = own_begin + i * p.plan.tiles_per_item * list_tile_rows;
        const bool has_own = own_row < own_end;
        item.own_begin = has_own ? own_row : 0;
        item.own_end = has_own ? min(own_row + p.plan.tiles_per_item * list_tile_rows, own_end) : 0;
        item.list_tiles = own_tiles + tiles_of(rows);
        p.items[at + i] = item;
    }
}

/// The ends of the last tiles of `lists` lists, from[i] to to[i], a list a warp at a time: in whole lines.
__device__ __forceinline__ void write_padding(const ListParams& p, const std::int32_t* from, const std::int32_t* to,
                                              int lists) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warps = static_cast<int>(blockDim.x) / 32;
    for (int l = static_cast<int>(threadIdx.x) / 32; l < lists; l += warps) {
        for (std::int32_t row = from[l] + lane; row < to[l]; row += 32) p.entries[row] = list_padding;
    }
}

/// Where the items of windows begin, by the thread block of a window's first part, and what one thread block has to do
/// for all. at: items before the part.
__device__ __forceinline__ void write_window_items(const ListParams& p, const ListPart& part, int piece, int at) {
    const ListPlan& plan = p.plan;
    if (part.local_head % plan.heads_per_window == 0 && part.window < plan.token_windows) {
        const bool first = piece == 0 || part.window != piece - 1 - sequence_of_piece(p, piece - 1);
        const int head_window = part.local_head / plan.heads_per_window;
        if (first && threadIdx.x == 0) p.window_items[head_window * plan.token_windows + part.window] = at;
    }
    if (part.number != 0) return;
    const int all = items_before(p, parts_of(plan));
    // Windows of heads that a last chunk does not have hold nothing.
    const int head_windows = (p.chunk.head_count + plan.heads_per_window - 1) / plan.heads_per_window;
    const int t = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    for (int i = head_windows * plan.token_windows + t; i <= plan.windows(); i += threads) p.window_items[i] = all;
    for (int i = t; i < plan.counters; i += threads) p.counters[i] = 0;
}

/// Items of one piece and query head, among those of the query heads of its key head; pads its lists to whole tiles.
/// Scratch: two words a thread, in shared memory.
__device__ __forceinline__ void emit_items(const ListParams& p, const ListPart& part, int piece,
                                           std::int32_t* scratch) {
    const int group = p.plan.heads_q / p.plan.heads_k, head_of_window = part.local_head % p.plan.heads_per_window;
    // Heads of the window that share the key head: `before` of them before this one, heads in all.
    const int before = min((p.chunk.head_begin + part.local_head) % group, head_of_window);
    const int first_head = part.local_head - before;
    const int heads =
        min(min(group - (p.chunk.head_begin + first_head) % group, p.plan.heads_per_window - (head_of_window - before)),
            p.chunk.head_count - first_head);
    int at = items_before(p, static_cast<int>(part.number) - before);
    write_window_items(p, part, piece, at);
    const int t = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    int row = static_cast<int>(part.first_row);
    for (int j0 = 0; j0 < part.lists; j0 += threads) {
        const int list = j0 + t;
        int items = 0, items_of_heads_before = 0, count = 0;
        if (list < part.lists) {
            const int own = part.own_end(p, list) - part.own_begin(p, list);
            for (int h = 0; h < heads; ++h) {
                const int rows = p.list_count[part.list_index_of_head(p, list, h - before)];
                if (h == before) {
                    count = rows;
                    items_of_heads_before = items;
                }
                items += items_of(p, own, rows);
            }
        }
        int all_items, all_rows;
        const int to = at + block_exclusive_sum(items, all_items) + items_of_heads_before;
        const int first_row = row + block_exclusive_sum(padded_rows(count), all_rows);
        at += all_items;
        row += all_rows;
        if (list < part.lists) write_items(p, part, {list, first_row, count}, to);
        scratch[t] = first_row + count;
        scratch[threads + t] = first_row + padded_rows(count);
        __syncthreads();
        write_padding(p, scratch, scratch + threads, min(part.lists - j0, threads));
        __syncthreads();
    }
}

}  // namespace mobalab::kernels::cuda
