#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "kernels/cuda/lists/list_part.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/tile/block_sum.cuh"

namespace mobalab::kernels::cuda {

inline constexpr int scan_threads = 256;

/// Threads of scan_kernel that share the segments of a list: a few segments each. At most all but a warp of lists.
inline int scan_sharers(int segments) {
    constexpr unsigned segments_of_thread = 4;
    return static_cast<int>(std::clamp(std::bit_floor(static_cast<unsigned>(segments) / segments_of_thread), 1u,
                                       static_cast<unsigned>(scan_threads) / 32));
}

/// Turns the counts of a list per segment into offsets, returns their sum; every thread calls it.
__device__ __forceinline__ int scan_segments(const ListParams& p, const ListPart& part, int list, bool exists,
                                             int sharers) {
    __shared__ int sums[scan_threads];
    const int segments =
        p.plan.slots == 0 ? 0 : (part.row_end - part.row_begin + p.plan.segment_rows - 1) / p.plan.segment_rows;
    const int width = scan_threads / sharers, share = static_cast<int>(threadIdx.x) / width;
    const int per_share = (segments + sharers - 1) / sharers;
    const int first = min(share * per_share, segments), last = exists ? min(first + per_share, segments) : first;
    int sum = 0;
#pragma unroll 4
    for (int s = first; s < last; ++s) sum += part.segment_counts(p, s)[list];
    sums[threadIdx.x] = sum;
    __syncthreads();
    int before = 0, all = 0;
    for (int s = 0; s < sharers; ++s) {
        const int other = sums[s * width + static_cast<int>(threadIdx.x) % width];
        if (s < share) before += other;
        all += other;
    }
#pragma unroll 4
    for (int s = first; s < last; ++s) {
        const int count = part.segment_counts(p, s)[list];
        part.segment_counts(p, s)[list] = before;
        before += count;
    }
    return all;
}

/// Where segments begin within their lists; what lists and parts count. A thread block has some lists of a part.
static __global__ void __launch_bounds__(scan_threads) scan_kernel(const ListParams p, int sharers) {
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const ListPart part(p, static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y));
    const int width = scan_threads / sharers, list0 = static_cast<int>(blockIdx.z) * width;
    if (list0 >= part.lists) return;
    const int list = list0 + static_cast<int>(threadIdx.x) % width;
    const bool exists = list < part.lists;
    const int count = scan_segments(p, part, list, exists, sharers);
    if (static_cast<int>(threadIdx.x) >= width) return;  // whole warps
    if (exists) p.list_count[part.list_index(list)] = count;
    const int own = exists ? part.own_end(p, list) - part.own_begin(p, list) : 0;
    const int items = warp_inclusive_sum(exists ? items_of(p, own, count) : 0);
    if (threadIdx.x % 32 == 31 && items > 0) {
        atomicAdd(p.item_count + part.number, items);
        atomicAdd(p.item_count_of_group + part.number / parts_per_group, items);
    }
}

}  // namespace mobalab::kernels::cuda
