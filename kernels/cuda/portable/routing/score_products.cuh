#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>

#include "kernels/cuda/portable/routing/query_fragments.cuh"
#include "kernels/cuda/ptx/matrix.cuh"
#include "kernels/cuda/ptx/mma.cuh"
#include "kernels/cuda/tile/elements.cuh"

namespace mobalab::kernels::cuda::portable {

/// Two elements, each no smaller than `low` and no larger than `high`; NaN stays.
template <typename T>
__device__ __forceinline__ std::uint32_t clamp(std::uint32_t elements, float low, float high) {
    using P = typename Pair<T>::Type;
    P q;
    memcpy(&q, &elements, sizeof(q));
    q = __hmin2_nan(__hmax2_nan(q, P{from_float<T>(low), from_float<T>(low)}),
                    P{from_float<T>(high), from_float<T>(high)});
    memcpy(&elements, &q, sizeof(q));
    return elements;
}

/// What a query is clamped to before it is multiplied with a part.
struct QueryBounds {
    float low = -INFINITY, high = INFINITY;

    /// By sign: max(q, 0) with the first part, min(q, 0) with the second.
    __device__ __forceinline__ QueryBounds(bool by_sign, int part) {
        if (by_sign && part == 0) low = 0.0f;
        if (by_sign && part == 1) high = 0.0f;
    }
};

/// d += the queries times the columns of a piece, which are the tile's from Piece * piece_columns on. d: as ptx::mma
/// writes pieces of 8 columns, one behind the other. summaries: address of the piece. Clamped: queries within bounds.
template <typename T, bool Clamped, int Piece, typename Shape>
__device__ __forceinline__ void add_products(float (&d)[Shape::values], std::uint32_t summaries,
                                             const QueryFragments<Shape>& queries, const QueryBounds& bounds,
                                             int lane) {
    // Matrices of an ldmatrix: two of 8 columns, each in two halves of 8 elements. Rows begin at multiples of their
    // size, so the chunk of a step is an exclusive or with the address of the first one's.
    const int row = lane / 16 * 8 + lane % 8, half = lane / 8 % 2;
    const std::uint32_t first = summaries + row * Shape::row_bytes + (half ^ (row % 8)) * 16;
    // Registers cannot be indexed.
#pragma unroll(Shape::queries_stay ? Shape::steps : 2)
    for (int step = 0; step < Shape::steps; ++step) {
        std::uint32_t a[4];
        queries.get(step, a);
        if constexpr (Clamped) {
#pragma unroll
            for (int i = 0; i < 4; ++i) a[i] = clamp<T>(a[i], bounds.low, bounds.high);
        }
        const std::uint32_t at = first ^ (step * 32);
#pragma unroll
        for (int column = 0; column < Shape::piece_columns; column += 16) {
            std::uint32_t b[4];
            ptx::ldmatrix_x4(b, at + column * Shape::row_bytes);
            float* const sums = d + Piece * Shape::piece_values + column / 2;
            ptx::mma<T>(sums, a, b[0], b[1]);
            ptx::mma<T>(sums + 4, a, b[2], b[3]);
        }
    }
}

template <typename T, int Piece, typename Shape>
__device__ __forceinline__ void add_products(const RouteParams& p, float (&d)[Shape::values], std::uint32_t summaries,
                                             const QueryFragments<Shape>& queries, int part, int lane) {
    const QueryBounds bounds(p.by_sign, part);
    // Wide tiles make the clamping cheap: less code.
    if (Shape::tile_blocks > 64 || p.by_sign) {
        add_products<T, true, Piece>(d, summaries, queries, bounds, lane);
    } else {
        add_products<T, false, Piece>(d, summaries, queries, bounds, lane);
    }
}

/// Of part `part`, in the dtype of the call.
template <int Piece, typename Shape>
__device__ __forceinline__ void add_products(const RouteParams& p, float (&d)[Shape::values], std::uint32_t summaries,
                                             const QueryFragments<Shape>& queries, int part, int lane) {
    if (p.bf16) {
        add_products<__nv_bfloat16, Piece>(p, d, summaries, queries, part, lane);
    } else {
        add_products<__half, Piece>(p, d, summaries, queries, part, lane);
    }
}

}  // namespace mobalab::kernels::cuda::portable
