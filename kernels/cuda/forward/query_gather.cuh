#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/forward/block_forward.h"
#include "kernels/cuda/forward/work_unit.cuh"
#include "kernels/cuda/ptx/copy.cuh"

namespace mobalab::kernels::cuda {

/// 16 query rows in shared memory such that ldmatrix meets no bank conflict: 16-byte piece p of row r lies at
/// offset(r, p). Rows of whole 128-byte lines are swizzled. Padding would do as well for ldmatrix, but a row that
/// begins in the middle of a 32-byte sector makes cp.async fetch every sector twice; it is left to the narrow odd
/// sizes.
template <int HeadDim>
struct QueryRows {
    static constexpr bool swizzled = HeadDim == 64 || HeadDim == 128;
    static constexpr int pitch = swizzled ? HeadDim * 2 : HeadDim * 2 + 16;

    static __device__ __forceinline__ int offset(int row, int piece) {
        return row * pitch + (swizzled ? piece ^ (row % 8) : piece) * 16;
    }
};

/// One warp asks for its 16 query rows: cp.async, 16 bytes a lane and step. It then commits and waits like for any
/// cp.async. Bulk copies would need one instruction a row, but the copy engine takes its addresses from uniform
/// registers, so the lanes would issue them one after the other.
/// `q_rows`: query row 0; `entry`: tile_entry() of lane % 16. Rows from `count` on are filled with zeros; Padded: also
/// the pieces of 16 bytes from `real_pieces` on, which the tensor does not have.
template <int HeadDim, bool Padded = false>
__device__ __forceinline__ void gather_queries(const char* q_rows, std::int64_t stride_token, std::uint32_t entry,
                                               std::byte* rows, int count, int lane,
                                               [[maybe_unused]] int real_pieces = 0) {
    using Rows = QueryRows<HeadDim>;
    const auto exists = [&](int piece) { return !Padded || piece < real_pieces; };
    const auto source_piece = [&](int piece) { return exists(piece) ? piece : 0; };  // a real address all the same
    constexpr int pieces = HeadDim / 8, steps = 16 * pieces / 32;
    const std::uint32_t query = entry_query(entry);
    if constexpr (32 % pieces == 0) {
        constexpr int rows_per_step = 32 / pieces;
        const int first_row = lane / pieces, piece = lane % pieces;
        const char* const source = q_rows + source_piece(piece) * 16;
#pragma unroll
        for (int step = 0; step < steps; ++step) {
            const int row = first_row + step * rows_per_step;
            const std::uint32_t from = __shfl_sync(0xffffffffu, query, row);
            ptx::cp_async_16(rows + Rows::offset(row, piece), source + from * stride_token,
                             row < count && exists(piece));
        }
    } else {
#pragma unroll 2
        for (int step = 0; step < steps; ++step) {
            const int index = step * 32 + lane, row = index / pieces, piece = index % pieces;
            const std::int64_t from = __shfl_sync(0xffffffffu, query, row);
            ptx::cp_async_16(rows + Rows::offset(row, piece), q_rows + from * stride_token + source_piece(piece) * 16,
                             row < count && exists(piece));
        }
    }
}

}  // namespace mobalab::kernels::cuda
