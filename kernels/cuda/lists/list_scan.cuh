#pragma once

#include <cstdint>

#include "kernels/cuda/lists/list_part.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/tile/block_sum.cuh"

namespace mobalab::kernels::cuda {

inline constexpr int scan_threads = 1024;

/// Lists that a thread block of scan_kernel has side by side, one a thread: whole warps of them.
MOBALAB_HOST_DEVICE constexpr int scan_width(int lists) {
    return lists >= scan_threads ? scan_threads : lists <= 32 ? 32 : (lists + 31) / 32 * 32;
}
/// Threads of it: where lists are few, several share the segments of one.
MOBALAB_HOST_DEVICE constexpr int scan_threads_of(int lists) {
    return scan_threads / scan_width(lists) * scan_width(lists);
}

/// Turns the counts of the thread's list per segment into offsets, returns their sum; every thread calls it. The
/// threads of a list have as many segments each.
__device__ __forceinline__ int scan_segments(const ListParams& p, const ListPart& part, int list, bool exists,
                                             int width) {
    __shared__ int sums[scan_threads];
    const int segments =
        p.plan.slots == 0 ? 0 : (part.row_end - part.row_begin + p.plan.segment_rows - 1) / p.plan.segment_rows;
    const int sharers = static_cast<int>(blockDim.x) / width, share = static_cast<int>(threadIdx.x) / width;
    const int per_share = (segments + sharers - 1) / sharers;
    const int first = min(share * per_share, segments), last = exists ? min(first + per_share, segments) : first;
    int before = 0, all = 0;
    if (sharers > 1) {
        int sum = 0;
#pragma unroll 8
        for (int s = first; s < last; ++s) sum += part.segment_counts(p, s)[list];
        sums[threadIdx.x] = sum;
        __syncthreads();
        for (int s = 0; s < sharers; ++s) {
            const int other = sums[s * width + static_cast<int>(threadIdx.x) % width];
            if (s < share) before += other;
            all += other;
        }
        __syncthreads();
    }
    constexpr int batch = 8;  // loads in flight together
    for (int s0 = first; s0 < last; s0 += batch) {
        int counts[batch];
#pragma unroll
        for (int i = 0; i < batch; ++i) counts[i] = s0 + i < last ? part.segment_counts(p, s0 + i)[list] : 0;
#pragma unroll
        for (int i = 0; i < batch; ++i) {
            if (s0 + i < last) part.segment_counts(p, s0 + i)[list] = before;
            before += counts[i];
        }
    }
    return sharers > 1 ? all : before;
}

/// The ends of the last tiles of `lists` lists, from[i] to to[i], a list a warp at a time: in whole lines.
__device__ __forceinline__ void write_padding(const ListParams& p, const std::int32_t* from, const std::int32_t* to,
                                              int lists) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warps = static_cast<int>(blockDim.x) / 32;
    for (int l = static_cast<int>(threadIdx.x) / 32; l < lists; l += warps) {
        for (std::int32_t row = from[l] + lane; row < to[l]; row += 32) p.entries[row] = list_padding;
    }
}

/// Where lists and segments begin; pads lists to whole tiles.
static __global__ void __launch_bounds__(scan_threads) scan_kernel(const ListParams p) {
    __shared__ std::int32_t padding_begin[scan_threads], padding_end[scan_threads];
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const ListPart part(p, static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y));
    const int width = scan_width(p.plan.lists_max), column = static_cast<int>(threadIdx.x) % width;
    const bool leads = static_cast<int>(threadIdx.x) < width;  // of the threads of a list
    std::int64_t row = part.first_row;
    int items = 0;
    for (int j0 = 0; j0 < part.lists; j0 += width) {
        const int list = j0 + column;
        const bool exists = list < part.lists, counts = exists && leads;
        const int count = scan_segments(p, part, list, exists, width);
        const int padded = counts ? tiles_of(count) * list_tile_rows : 0;
        int rows, item_sum;
        const std::int64_t begin = row + block_exclusive_sum(padded, rows);
        row += rows;
        const int own = counts ? part.own_end(p, list) - part.own_begin(p, list) : 0;
        block_exclusive_sum(counts ? items_of(p, own, count) : 0, item_sum);
        items += item_sum;
        if (counts) {
            p.list_begin[part.list_index(list)] = static_cast<std::int32_t>(begin);
            p.list_count[part.list_index(list)] = count;
            padding_begin[column] = static_cast<std::int32_t>(begin) + count;
            padding_end[column] = static_cast<std::int32_t>(begin) + padded;
        }
        __syncthreads();
        write_padding(p, padding_begin, padding_end, min(part.lists - j0, width));
        __syncthreads();
    }
    if (threadIdx.x == 0) p.item_begin[part.number] = items;
}

/// Where the items of each part begin; clears the counters.
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
    for (int i = static_cast<int>(threadIdx.x); i < plan.counters; i += scan_threads) p.counters[i] = 0;
}

}  // namespace mobalab::kernels::cuda
