#pragma once

#include <cstdint>

#include "kernels/cuda/lists/list_part.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/tile/block_sum.cuh"

namespace mobalab::kernels::cuda {

inline constexpr int scan_threads = 1024;

/// One list: turns its counts per segment into offsets, returns their sum.
__device__ __forceinline__ int scan_segments(const ListParams& p, const ListPart& part, int list) {
    const int segments =
        p.plan.slots == 0 ? 0 : (part.row_end - part.row_begin + p.plan.segment_rows - 1) / p.plan.segment_rows;
    constexpr int batch = 16;
    int sum = 0;
    for (int s0 = 0; s0 < segments; s0 += batch) {
        int counts[batch];
#pragma unroll
        for (int i = 0; i < batch; ++i) counts[i] = s0 + i < segments ? part.segment_counts(p, s0 + i)[list] : 0;
#pragma unroll
        for (int i = 0; i < batch; ++i) {
            if (s0 + i < segments) part.segment_counts(p, s0 + i)[list] = sum;
            sum += counts[i];
        }
    }
    return sum;
}

/// Every lane brings one list; the warp fills the ends of their last tiles one after another, in whole lines.
__device__ __forceinline__ void write_padding(const ListParams& p, std::int32_t begin, int count, int padded) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    for (int l = 0; l < 32; ++l) {
        const std::int32_t from = __shfl_sync(full_warp, begin + count, l),
                           to = __shfl_sync(full_warp, begin + padded, l);
        for (std::int32_t row = from + lane; row < to; row += 32) p.entries[row] = list_padding;
    }
}

/// Where lists and segments begin; pads lists to whole tiles.
static __global__ void __launch_bounds__(scan_threads) scan_kernel(const ListParams p) {
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const ListPart part(p, static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y));
    std::int64_t row = part.first_row;
    int items = 0;
    for (int j0 = 0; j0 < part.lists; j0 += static_cast<int>(blockDim.x)) {
        const int list = j0 + static_cast<int>(threadIdx.x);
        const bool exists = list < part.lists;
        const int count = exists ? scan_segments(p, part, list) : 0;
        const int padded = tiles_of(count) * list_tile_rows;
        int rows, item_sum;
        const std::int64_t begin = row + block_exclusive_sum(padded, rows);
        row += rows;
        const int own = exists ? part.own_end(p, list) - part.own_begin(p, list) : 0;
        block_exclusive_sum(items_of(p, own, count), item_sum);
        items += item_sum;
        write_padding(p, static_cast<std::int32_t>(begin), count, padded);
        if (!exists) continue;
        p.list_begin[part.list_index(list)] = static_cast<std::int32_t>(begin);
        p.list_count[part.list_index(list)] = count;
    }
    if (threadIdx.x == 0) p.item_begin[part.number] = items;
}

/// Where the items of each part begin.
static __global__ void __launch_bounds__(scan_threads) number_kernel(const ListParams p) {
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const ListPlan& plan = p.plan;
    const int parts = plan.head_windows * plan.pieces * plan.heads_per_window;
    int at = 0;
    for (int i0 = 0; i0 < parts; i0 += scan_threads) {
        const int i = i0 + static_cast<int>(threadIdx.x);
        const int head_window = i / plan.heads_per_window / plan.pieces;
        const int piece = i / plan.heads_per_window % plan.pieces, head = i % plan.heads_per_window;
        const bool exists = i < parts && head_window * plan.heads_per_window + head < p.chunk.head_count;
        int all;
        const int begin = at + block_exclusive_sum(exists ? p.item_begin[i] : 0, all);
        at += all;
        if (i >= parts) continue;
        p.item_begin[i] = begin;
        const int window = piece - sequence_of_piece(p, piece);
        const bool first = head == 0 && (piece == 0 || window != piece - 1 - sequence_of_piece(p, piece - 1));
        if (first && window < plan.token_windows) p.window_items[head_window * plan.token_windows + window] = begin;
    }
    if (threadIdx.x == 0) p.window_items[plan.windows()] = at;
}

}  // namespace mobalab::kernels::cuda
