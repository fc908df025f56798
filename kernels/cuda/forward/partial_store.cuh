#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/forward/block_forward.h"
#include "kernels/cuda/forward/work_unit.cuh"
#include "kernels/cuda/ptx/matrix.cuh"

// Between accumulator fragments and 16-bit registers, and out to the partials.
namespace mobalab::kernels::cuda {

/// Two fp32 as two 16-bit elements, `low` in the lower half.
template <typename T>
__device__ __forceinline__ std::uint32_t pack(float low, float high);
template <>
__device__ __forceinline__ std::uint32_t pack<__nv_bfloat16>(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
}
template <>
__device__ __forceinline__ std::uint32_t pack<__half>(float low, float high) {
    const __half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
}

template <typename T>
__device__ __forceinline__ float2 unpack(std::uint32_t pair);
template <>
__device__ __forceinline__ float2 unpack<__nv_bfloat16>(std::uint32_t pair) {
    return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&pair));
}
template <>
__device__ __forceinline__ float2 unpack<__half>(std::uint32_t pair) {
    return __half22float2(*reinterpret_cast<const __half2*>(&pair));
}

__device__ __forceinline__ float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ __forceinline__ float quad_sum(float x) {
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

__device__ __forceinline__ void store_streaming(void* address, uint4 value) {
    asm volatile("st.global.cs.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(address), "r"(value.x), "r"(value.y), "r"(value.z),
                 "r"(value.w)
                 : "memory");
}

/// Where the partials of a tile go: those of row 0, and the bytes from one to the next.
struct PartialTarget {
    char* out;
    std::int64_t pitch;
    float* lse;
};

template <int HeadDim>
__device__ __forceinline__ PartialTarget partial_target(const PartialLayout& partials, const WorkUnit& unit, bool own) {
    if (own) return {unit.own_out, unit.own_pitch, unit.own_lse};
    constexpr std::int64_t pitch = HeadDim * 2;
    return {static_cast<char*>(partials.out) + unit.list_partial * pitch, pitch, partials.lse + unit.list_partial};
}

/// Writes the rows lane / 4 + {0, 8} of a warp's 16: out / sum, and offset + log2(sum).
/// out: accumulator fragment 16 x HeadDim; offset, sum: complete in every lane of the row's quad.
template <typename T, int HeadDim>
__device__ __forceinline__ void store_partials(const PartialTarget& target, const TileRows& rows,
                                               const float (&out)[HeadDim / 2], const float (&offset)[2],
                                               const float (&sum)[2], int lane) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const std::int32_t row = rows.first + lane / 4 + 8 * h;
        if (row >= rows.limit) continue;
        const float inverse = sum[h] > 0.0f ? __fdividef(1.0f, sum[h]) : 0.0f;
        char* const pieces = target.out + row * target.pitch + (lane % 4) * 16;
#pragma unroll
        for (int m = 0; m < HeadDim / 32; ++m) {
            std::uint32_t piece[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int at = 4 * (4 * m + i) + 2 * h;
                piece[i] = pack<T>(out[at] * inverse, out[at + 1] * inverse);
            }
            store_streaming(pieces + m * 64, make_uint4(piece[0], piece[1], piece[2], piece[3]));
        }
        if (lane % 4 == 0) target.lse[row] = offset[h] + __log2f(sum[h]);
    }
}

}  // namespace mobalab::kernels::cuda
