#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/block_forward.h"
#include "kernels/cuda/ptx/copy.cuh"
#include "kernels/cuda/work_unit.cuh"

namespace mobalab::kernels::cuda {

/// One warp asks for its 16 query rows (cp.async, 16 bytes a lane and step) into shared rows `Pitch` bytes apart. It
/// then commits and waits like for any cp.async. Bulk copies would need one instruction a row, but the copy engine
/// takes its addresses from uniform registers, so the lanes would issue them one after the other. `q_rows`: query row
/// 0; `entry`: tile_entry() of lane % 16.
template <int HeadDim, int Pitch>
__device__ __forceinline__ void gather_queries(const char* q_rows, std::int64_t stride_token, std::uint32_t entry,
                                               std::byte* rows, int lane) {
    constexpr int pieces = HeadDim / 8, steps = 16 * pieces / 32;
    const std::uint32_t query = entry_query(entry);
    if constexpr (32 % pieces == 0) {
        constexpr int rows_per_step = 32 / pieces;
        const int first_row = lane / pieces, piece = lane % pieces;
        const char* const source = q_rows + piece * 16;
        std::byte* const target = rows + first_row * Pitch + piece * 16;
#pragma unroll
        for (int step = 0; step < steps; ++step) {
            const std::uint32_t row = __shfl_sync(0xffffffffu, query, first_row + step * rows_per_step);
            ptx::cp_async_16(target + step * rows_per_step * Pitch, source + row * stride_token);
        }
    } else {
#pragma unroll 2
        for (int step = 0; step < steps; ++step) {
            const int index = step * 32 + lane, row = index / pieces, piece = index % pieces;
            const std::int64_t source = __shfl_sync(0xffffffffu, query, row);
            ptx::cp_async_16(rows + row * Pitch + piece * 16, q_rows + source * stride_token + piece * 16);
        }
    }
}

}  // namespace mobalab::kernels::cuda
