#pragma once

#include <cstdint>

#include "kernels/cuda/lists/list_part.cuh"
#include "kernels/cuda/tile/block_sum.cuh"

namespace mobalab::kernels::cuda {

__device__ __forceinline__ int padded_rows(int count) {
    return tiles_of(count) * list_tile_rows;
}

/// Rows where the lists of a range go on with the queries of a segment, to next[lists], which has room for `room`.
/// Every thread calls it; the caller synchronises.
__device__ __forceinline__ void begin_lists(const ListParams& p, const ListPart& part, int segment,
                                            const ListRange& range, std::int32_t* next, int room) {
    const int t = static_cast<int>(threadIdx.x), end = range.first + range.count;
    const int per_thread = (end + static_cast<int>(blockDim.x) - 1) / static_cast<int>(blockDim.x);
    const int mine = min(t * per_thread, end), mine_end = min(mine + per_thread, end);
    const std::int32_t* const counts = p.list_count + part.list_index(0);
    const std::int32_t* const offsets = part.segment_counts(p, segment);
    int rows = 0, all;
#pragma unroll 4
    for (int j = mine; j < mine_end; ++j) rows += padded_rows(counts[j]);
    int row = static_cast<int>(part.first_row) + block_exclusive_sum(rows, all);
#pragma unroll 1
    for (int j = mine; j < mine_end; ++j) {
        if (j >= range.first) next[j - range.first] = row + offsets[j];
        row += padded_rows(counts[j]);
    }
    for (int j = range.count + t; j < room; j += static_cast<int>(blockDim.x)) next[j] = 0;
}

}  // namespace mobalab::kernels::cuda
