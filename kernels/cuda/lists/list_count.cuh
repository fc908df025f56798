#pragma once

#include <cstdint>

#include "kernels/cuda/lists/selection_rows.cuh"
#include "kernels/cuda/lists/sorted_query.cuh"
#include "kernels/cuda/ptx/grid.cuh"

namespace mobalab::kernels::cuda {

/// Entries of each list and segment of queries. Ranged: there are several ranges, blockIdx.z says which.
template <int Width, bool Ranged>
__global__ void __launch_bounds__(count_warps * 32, Width <= 16   ? 4
                                                    : Width <= 32 ? 3
                                                                  : 2) count_kernel(const ListParams p) {
    constexpr int tiles = count_tiles(Width), threads = count_warps * 32;
    extern __shared__ __align__(16) std::uint32_t count_raw[];  // [warps][tiles][rows], [lists]
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const int segment = static_cast<int>(blockIdx.x) % p.plan.segments_max;
    const ListPart part(p, static_cast<int>(blockIdx.x) / p.plan.segments_max, static_cast<int>(blockIdx.y));
    if (segment == 0 && blockIdx.z == 0 && threadIdx.x == 0) clear_item_counts(p, part);
    const int begin = part.row_begin + segment * p.plan.segment_rows;
    const int end = min(begin + p.plan.segment_rows, part.row_end);
    if (begin >= end || p.plan.slots == 0) return;
    const ListRange range(p, part, Ranged ? static_cast<int>(blockIdx.z) : 0);
    const int lists = Ranged ? range.count : part.lists;
    if (Ranged && lists == 0) return;
    const int t = static_cast<int>(threadIdx.x), warp = t / 32, lane = t % 32, slots = p.plan.slots;
    const SelectionRows rows(slots);
    const int tile_words = tile_queries * rows.stride();
    std::uint32_t* const tile = count_raw + warp * tiles * tile_words;
    std::uint32_t* const histogram = count_raw + count_warps * tiles * tile_words;

    constexpr int step = count_warps * tile_queries;
    const auto load = [&](int row0, int place) {
        rows.load(selected_blocks(p, part, row0), end - row0, tile + place * tile_words);
    };
    const int first = begin + warp * tile_queries;
#pragma unroll
    for (int i = 0; i < tiles; ++i) load(first + i * step, i);
    for (int j = t; j < lists; j += threads) histogram[j] = 0;
    __syncthreads();
    int place = 0;
    for (int row0 = first; row0 < end; row0 += step) {
        ptx::cp_async_wait<tiles - 1>();
        __syncwarp();
        const int row = row0 + lane;
        const SortedQuery<Width> query(tile + place * tile_words + lane * rows.stride(), slots,
                                       row < end ? candidates_of(p, part, row) : 0);
        __syncwarp();
        load(row0 + tiles * step, place);
        place = (place + 1) % tiles;
        query.for_each_list(p.list_shift, [&](int list, std::uint32_t) {
            if (!Ranged || range.holds(list)) atomicAdd(histogram + list - (Ranged ? range.first : 0), 1u);
        });
    }
    __syncthreads();
    std::int32_t* const counts = part.segment_counts(p, segment) + (Ranged ? range.first : 0);
    for (int j = t; j < lists; j += threads) counts[j] = static_cast<std::int32_t>(histogram[j]);
}

}  // namespace mobalab::kernels::cuda
