#pragma once

#include <cstdint>

#include "kernels/cuda/lists/sorted_query.cuh"
#include "kernels/cuda/ptx/grid.cuh"

namespace mobalab::kernels::cuda {

/// Entries of each list and segment of queries. Ranged: there are several ranges, blockIdx.z says which.
template <int Width, bool Ranged>
__global__ void __launch_bounds__(pair_threads, 1) count_kernel(const ListParams p) {
    using Shape = PairShape<Width>;
    using Query = typename Shape::Query;
    extern __shared__ std::int32_t histogram[];  // [lists]
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const int segment = static_cast<int>(blockIdx.x) % p.plan.segments_max;
    const ListPart part(p, static_cast<int>(blockIdx.x) / p.plan.segments_max, static_cast<int>(blockIdx.y));
    const int begin = part.row_begin + segment * p.plan.segment_rows;
    const int end = min(begin + p.plan.segment_rows, part.row_end);
    if (begin >= end) return;
    const int t = static_cast<int>(threadIdx.x);
    const ListRange range(p, part, Ranged ? static_cast<int>(blockIdx.z) : 0);
    const int lists = Ranged ? range.count : part.lists;
    if (Ranged && lists == 0) return;
    for (int j = t; j < lists; j += pair_threads) histogram[j] = 0;
    __syncthreads();
    TileQueries<Shape> next;
    next.load(p, part, begin, end);
    for (int row0 = begin; row0 < end; row0 += Shape::tile_queries) {
        const TileQueries<Shape> tile = next;
        next.load(p, part, row0 + Shape::tile_queries, end);
#pragma unroll
        for (int pass = 0; pass < Shape::passes; ++pass) {
            typename Query::Leader leader[Query::per_lane];
            const int candidates = candidates_of(p, part, row0 + Shape::query(pass));
            Query(tile.raw[pass], candidates).leaders(p.list_shift, leader);
#pragma unroll
            for (int r = 0; r < Query::per_lane; ++r) {
                if (leader[r].leads && (!Ranged || range.holds(leader[r].list))) {
                    atomicAdd(histogram + leader[r].list - (Ranged ? range.first : 0), 1);
                }
            }
        }
    }
    __syncthreads();
    std::int32_t* counts = part.segment_counts(p, segment) + (Ranged ? range.first : 0);
    for (int j = t; j < lists; j += pair_threads) counts[j] = histogram[j];
}

}  // namespace mobalab::kernels::cuda
