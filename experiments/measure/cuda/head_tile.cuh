#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/ptx/copy.cuh"
#include "kernels/cuda/ptx/matrix.cuh"
#include "kernels/cuda/ptx/mma.cuh"
#include "kernels/cuda/ptx/warp.cuh"

// Tiles of 64 query rows by 64 keys of one head: four warps of 16 rows each, mma.sync, cp.async.
namespace mobalab::experiments::cuda {

namespace ptx = kernels::cuda::ptx;

inline constexpr int tile_rows = 64;
inline constexpr int tile_keys = 64;
inline constexpr int tile_threads = 128;
inline constexpr int warp_rows = 16;
inline constexpr int tile_columns = tile_keys / 8;  // of mma: 8 keys each

/// 64 rows of 16-bit elements, 16 bytes apart from a multiple of 32: ldmatrix meets no bank conflict.
template <int HeadDim>
struct Tile {
    static constexpr int pitch = HeadDim * 2 + 16;
    alignas(16) std::byte rows[tile_rows * pitch];

    __device__ __forceinline__ const std::byte* row(int r) const { return rows + r * pitch; }
};

/// Rows [first, first + 64) of `count` rows that lie `stride` bytes apart; rows behind the last one become zeros.
template <int HeadDim>
__device__ __forceinline__ void load_tile(Tile<HeadDim>& tile, const std::byte* source, std::int64_t stride, int first,
                                          int count) {
    constexpr int pieces = HeadDim / 8;
    static_assert(tile_rows * pieces % tile_threads == 0);
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x); i < tile_rows * pieces; i += tile_threads) {
        const int row = i / pieces, piece = i % pieces;
        const int from = min(first + row, count - 1);  // a real address also where nothing is read
        ptx::cp_async_16(tile.rows + row * Tile<HeadDim>::pitch + piece * 16, source + from * stride + piece * 16,
                         first + row < count);
    }
}

/// Elements of the accumulator of 16 rows by 64 keys that a lane holds: [4 j + 2 h + i] is row lane / 4 + 8 h, key
/// 8 j + 2 (lane % 4) + i.
using Accumulator = float[4 * tile_columns];

/// sums += queries . keys; `queries`: the warp's first row. `map` takes and gives a pair of query elements.
template <typename T, int HeadDim, typename Map>
__device__ __forceinline__ void add_products(const std::byte* queries, const Tile<HeadDim>& keys, int lane,
                                             Accumulator& sums, const Map& map) {
    constexpr int pitch = Tile<HeadDim>::pitch;
#pragma unroll 4
    for (int s = 0; s < HeadDim / 16; ++s) {
        std::uint32_t q[4];
        ptx::ldmatrix_x4(q, queries + lane % 16 * pitch + (2 * s + lane / 16) * 16);
#pragma unroll
        for (std::uint32_t& pair : q) pair = map(pair);
#pragma unroll
        for (int j = 0; j < tile_columns; j += 2) {
            std::uint32_t k[4];
            ptx::ldmatrix_x4(k, keys.row(8 * j + lane / 16 * 8 + lane % 8) + lane / 8 % 2 * 16 + s * 32);
            ptx::mma<T>(sums + 4 * j, q, k[0], k[1]);
            ptx::mma<T>(sums + 4 * j + 4, q, k[2], k[3]);
        }
    }
}

template <typename T, int HeadDim>
__device__ __forceinline__ void products(const std::byte* queries, const Tile<HeadDim>& keys, int lane,
                                         Accumulator& sums) {
#pragma unroll
    for (float& sum : sums) sum = 0.0F;
    add_products<T, HeadDim>(queries, keys, lane, sums, [](std::uint32_t pair) { return pair; });
}

// Over the four lanes that share a row of an accumulator.
__device__ __forceinline__ float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(kernels::cuda::full_warp, x, 1));
    return fmaxf(x, __shfl_xor_sync(kernels::cuda::full_warp, x, 2));
}
__device__ __forceinline__ int quad_min(int x) {
    x = min(x, __shfl_xor_sync(kernels::cuda::full_warp, x, 1));
    return min(x, __shfl_xor_sync(kernels::cuda::full_warp, x, 2));
}
__device__ __forceinline__ float quad_sum(float x) {
    x += __shfl_xor_sync(kernels::cuda::full_warp, x, 1);
    return x + __shfl_xor_sync(kernels::cuda::full_warp, x, 2);
}

}  // namespace mobalab::experiments::cuda
