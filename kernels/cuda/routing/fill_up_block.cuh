#pragma once

#include <cstdint>

#include "kernels/cuda/routing/route_work.cuh"

namespace mobalab::kernels::cuda {

/// Sub-blocks without keys have no part in the score of their block, but their summaries are zeros and would score 0.
/// So the rows from `columns` on of a tile of summaries, to the end of that block, are made copies of the last row that
/// has keys: the best of the block is the same with them. The tile is as tensor copies write it: panels of 64 channels
/// in the 128-byte swizzle. By one thread: a block has at most 2^most_sub_shift rows.
template <typename Shape>
__device__ __forceinline__ void fill_up_last_block(unsigned char* tile, int columns, int sub_shift) {
    constexpr int chunks = 8, chunk_bytes = 16;  // of a row of a panel
    const int last = columns - 1, end = ((last >> sub_shift) + 1) << sub_shift;
#pragma unroll 1
    for (int row = columns; row < end; ++row) {
#pragma unroll 1
        for (int panel = 0; panel < Shape::panels; ++panel) {
            const auto at = [&](int of_row, int chunk) {
                return reinterpret_cast<uint4*>(tile + panel * Shape::centroid_panel_bytes + of_row * 128 +
                                                (chunk ^ (of_row % 8)) * chunk_bytes);
            };
#pragma unroll 2
            for (int chunk = 0; chunk < chunks; ++chunk) *at(row, chunk) = *at(last, chunk);
        }
    }
}

}  // namespace mobalab::kernels::cuda
