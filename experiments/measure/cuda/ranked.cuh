#pragma once

#include <cstdint>

#include "kernels/cuda/ptx/warp.cuh"

// Numbers that carry what they belong to: of two keys the larger one is the better, and 0 is none at all.
namespace mobalab::experiments::cuda {

using Ranked = unsigned long long;

/// Larger scores are better; of equal ones (-0 and +0 are) the larger `tie`. Not for NaN. Never 0.
__device__ __forceinline__ Ranked ranked(float score, std::uint32_t tie) {
    const std::uint32_t bits = __float_as_uint(score + 0.0F);
    const std::uint32_t ordered = (bits >> 31) != 0U ? ~bits : bits | 0x80000000U;
    return static_cast<Ranked>(ordered) << 32 | tie;
}
__device__ __forceinline__ std::uint32_t ranked_tie(Ranked key) {
    return static_cast<std::uint32_t>(key);
}

/// The key of the largest score, the lowest of equals.
__device__ __forceinline__ Ranked ranked_key(float score, std::uint32_t key) {
    return ranked(score, ~key);
}
/// -1: none.
__device__ __forceinline__ std::int32_t key_of(Ranked best) {
    return best == 0 ? -1 : static_cast<std::int32_t>(~ranked_tie(best));
}

__device__ __forceinline__ Ranked warp_max(Ranked x) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
        const Ranked other = __shfl_xor_sync(kernels::cuda::full_warp, x, step);
        x = other > x ? other : x;
    }
    return x;
}

template <typename T>
__device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kernels::cuda::full_warp, x, step);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(kernels::cuda::full_warp, x, step));
    return x;
}

/// Kernels that give each row a warp.
inline constexpr int row_threads = 128;
inline constexpr int rows_a_block = row_threads / 32;

__device__ __forceinline__ int row_of_warp() {
    return static_cast<int>(blockIdx.x) * rows_a_block + static_cast<int>(threadIdx.x) / 32;
}
__device__ __forceinline__ int lane_of_thread() {
    return static_cast<int>(threadIdx.x) % 32;
}

}  // namespace mobalab::experiments::cuda
