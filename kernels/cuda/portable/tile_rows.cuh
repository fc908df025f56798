#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/ptx/copy.cuh"
#include "kernels/cuda/ptx/matrix.cuh"

// Tiles of rows of 16-bit elements in shared memory, and the operands of mma.m16n8k16 in them.
namespace mobalab::kernels::cuda::portable {

/// Rows of Columns elements without padding: 16-byte piece p of row r lies at offset(r, p). Eight rows that follow one
/// another have the same piece in eight different places of 128 bytes, so ldmatrix meets no bank conflict.
template <int Columns>
struct SwizzledRows {
    static constexpr int pieces = Columns / 8, pitch = Columns * 2;
    static constexpr int places = pieces < 8 ? pieces : 8, rows_per_line = 8 / places;
    static_assert((pieces & (pieces - 1)) == 0 && pieces >= 2);

    static __device__ __forceinline__ int offset(int row, int piece) {
        return row * pitch + (piece ^ row / rows_per_line % places) * 16;
    }
};

/// A: 16 x 16 elements, rows [first_row, ...) of the tile, columns [16 step, ...).
template <int Columns>
__device__ __forceinline__ void load_a(std::uint32_t (&a)[4], const std::byte* tile, int first_row, int step,
                                       int lane) {
    ptx::ldmatrix_x4(a, tile + SwizzledRows<Columns>::offset(first_row + lane % 16, 2 * step + lane / 16));
}
/// The same with rows of A in columns of the tile: A's rows are columns [8 first_piece, ...), its columns rows
/// [first_row, ...).
template <int Columns>
__device__ __forceinline__ void load_a_transposed(std::uint32_t (&a)[4], const std::byte* tile, int first_row,
                                                  int first_piece, int lane) {
    ptx::ldmatrix_x4_transposed(
        a, tile + SwizzledRows<Columns>::offset(first_row + lane / 16 * 8 + lane % 8, first_piece + lane / 8 % 2));
}
/// B of two products side by side, b[0..1] and b[2..3]: 16 x 16 elements whose columns are rows [first_row, ...) of the
/// tile and whose rows are its columns [16 step, ...).
template <int Columns>
__device__ __forceinline__ void load_b(std::uint32_t (&b)[4], const std::byte* tile, int first_row, int step,
                                       int lane) {
    ptx::ldmatrix_x4(
        b, tile + SwizzledRows<Columns>::offset(first_row + lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2));
}
/// The same with rows of B in rows [first_row, ...) of the tile, its columns in columns [8 first_piece, ...).
template <int Columns>
__device__ __forceinline__ void load_b_transposed(std::uint32_t (&b)[4], const std::byte* tile, int first_row,
                                                  int first_piece, int lane) {
    ptx::ldmatrix_x4_transposed(b,
                                tile + SwizzledRows<Columns>::offset(first_row + lane % 16, first_piece + lane / 16));
}

/// Asks for Rows consecutive rows of a tensor; cp.async. Zeros take the place of rows from
/// `real_rows` on and of pieces from `real_pieces` on.
template <int Columns, int Rows>
__device__ __forceinline__ void load_rows(std::byte* tile, const char* first, std::int64_t stride_token, int real_rows,
                                          int real_pieces, int thread, int threads) {
    constexpr int pieces = Columns / 8;
#pragma unroll 4
    for (int i = thread; i < Rows * pieces; i += threads) {
        const int row = i / pieces, piece = i % pieces;
        // An address of the tensor also where nothing is read.
        const char* const source =
            first + max(min(row, real_rows - 1), 0) * stride_token + min(piece, real_pieces - 1) * 16;
        ptx::cp_async_16(tile + SwizzledRows<Columns>::offset(row, piece), source,
                         row < real_rows && piece < real_pieces);
    }
}

}  // namespace mobalab::kernels::cuda::portable
