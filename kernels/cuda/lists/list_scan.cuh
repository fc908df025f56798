#pragma once

#include <cstdint>

#include "kernels/cuda/lists/list_part.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/tile/block_sum.cuh"

namespace mobalab::kernels::cuda {

inline constexpr int scan_lists = 32;  // of a thread block of scan_kernel: a lane each
inline constexpr int scan_warps = 32;  // which share the segments
inline constexpr int scan_threads = scan_lists * scan_warps;

/// Of each lane, the sum over the warps before this one; `all`: over all warps. Every thread calls it.
__device__ __forceinline__ int sum_of_warps_before(int value, int& all) {
    __shared__ int sums[scan_warps][scan_lists + 1];
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    sums[warp][lane] = value;
    __syncthreads();
    sums[lane][warp] = warp_inclusive_sum(sums[lane][warp]);  // a column a warp
    __syncthreads();
    all = sums[scan_warps - 1][lane];
    return sums[warp][lane] - value;
}

/// Turns the counts of a list per segment into offsets, returns their sum; every thread calls it.
__device__ __forceinline__ int scan_segments(const ListParams& p, const ListPart& part, int list, bool exists) {
    const int segments =
        p.plan.slots == 0 ? 0 : (part.row_end - part.row_begin + p.plan.segment_rows - 1) / p.plan.segment_rows;
    const int per_warp = (segments + scan_warps - 1) / scan_warps;
    const int first = min(static_cast<int>(threadIdx.x) / 32 * per_warp, segments);
    const int last = exists ? min(first + per_warp, segments) : first;
    int sum = 0, all;
#pragma unroll 8
    for (int s = first; s < last; ++s) sum += part.segment_counts(p, s)[list];
    int before = sum_of_warps_before(sum, all);
#pragma unroll 4
    for (int s = first; s < last; ++s) {
        const int count = part.segment_counts(p, s)[list];
        part.segment_counts(p, s)[list] = before;
        before += count;
    }
    return all;
}

/// Whether this thread block is the last of `blocks` that ask `counter`, which count_kernel cleared: it then sees what
/// the others wrote to global memory, past its L1. Every thread calls it.
__device__ __forceinline__ bool comes_last(std::int32_t* counter, int blocks) {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last = atomicAdd(counter, 1) == blocks - 1;
    __syncthreads();
    __threadfence();
    return last;
}

/// The ends of the last tiles of `lists` lists, from[i] to to[i], a list a warp at a time: in whole lines.
__device__ __forceinline__ void write_padding(const ListParams& p, const std::int32_t* from, const std::int32_t* to,
                                              int lists) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    for (int l = static_cast<int>(threadIdx.x) / 32; l < lists; l += scan_warps) {
        for (std::int32_t row = from[l] + lane; row < to[l]; row += 32) p.entries[row] = list_padding;
    }
}

/// Where the lists of a part begin and how many items they are; pads lists to whole tiles.
__device__ __forceinline__ void begin_lists(const ListParams& p, const ListPart& part) {
    __shared__ std::int32_t padding_begin[scan_threads], padding_end[scan_threads];
    const int t = static_cast<int>(threadIdx.x);
    std::int64_t row = part.first_row;
    int items = 0;
    for (int j0 = 0; j0 < part.lists; j0 += scan_threads) {
        const int list = j0 + t;
        const bool exists = list < part.lists;
        const int count = exists ? __ldcg(p.list_count + part.list_index(list)) : 0;
        const int padded = tiles_of(count) * list_tile_rows;
        int rows, item_sum;
        const std::int64_t begin = row + block_exclusive_sum(padded, rows);
        row += rows;
        const int own = exists ? part.own_end(p, list) - part.own_begin(p, list) : 0;
        block_exclusive_sum(exists ? items_of(p, own, count) : 0, item_sum);
        items += item_sum;
        if (exists) p.list_begin[part.list_index(list)] = static_cast<std::int32_t>(begin);
        padding_begin[t] = static_cast<std::int32_t>(begin) + count;
        padding_end[t] = static_cast<std::int32_t>(begin) + padded;
        __syncthreads();
        write_padding(p, padding_begin, padding_end, min(part.lists - j0, scan_threads));
        __syncthreads();
    }
    if (t == 0) p.item_begin[part.number] = items;
}

/// Where the items of each part begin; clears the counters.
__device__ __forceinline__ void number_parts(const ListParams& p) {
    const ListPlan& plan = p.plan;
    const int parts = parts_of(plan);
    int at = 0;
    for (int i0 = 0; i0 < parts; i0 += scan_threads) {
        const int i = i0 + static_cast<int>(threadIdx.x);
        const int head_window = i / plan.heads_per_window / plan.pieces;
        const int piece = i / plan.heads_per_window % plan.pieces, head = i % plan.heads_per_window;
        const bool exists = i < parts && head_window * plan.heads_per_window + head < p.chunk.head_count;
        int all;
        const int begin = at + block_exclusive_sum(exists ? __ldcg(p.item_begin + i) : 0, all);
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

/// Where lists, segments and items begin. Thread blocks have some lists of a part each; the last one of a part sees all
/// of its lists, the last one of these all parts.
static __global__ void __launch_bounds__(scan_threads, 1) scan_kernel(const ListParams p) {
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const ListPart part(p, static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y));
    const int groups = max((part.lists + scan_lists - 1) / scan_lists, 1), group = static_cast<int>(blockIdx.z);
    if (group >= groups) return;
    const int list = group * scan_lists + static_cast<int>(threadIdx.x) % scan_lists;
    const bool exists = list < part.lists;
    const int count = scan_segments(p, part, list, exists);
    if (exists && threadIdx.x < scan_lists) p.list_count[part.list_index(list)] = count;
    if (!comes_last(p.finished + part.number, groups)) return;
    begin_lists(p, part);
    if (comes_last(p.finished + parts_of(p.plan), p.plan.pieces * p.chunk.head_count)) number_parts(p);
}

}  // namespace mobalab::kernels::cuda
