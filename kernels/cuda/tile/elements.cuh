#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

// 16-bit elements in groups of 8 (16 bytes) and their fp32 values.
namespace mobalab::kernels::cuda {

inline constexpr int chunk_elements = 8;

__device__ __forceinline__ float2 to_float2(__nv_bfloat162 x) {
    return __bfloat1622float2(x);
}
__device__ __forceinline__ float2 to_float2(__half2 x) {
    return __half22float2(x);
}
__device__ __forceinline__ float to_float(__nv_bfloat16 x) {
    return __bfloat162float(x);
}
__device__ __forceinline__ float to_float(__half x) {
    return __half2float(x);
}

template <typename T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
    return __float2bfloat16_rn(x);
}
template <>
__device__ __forceinline__ __half from_float<__half>(float x) {
    return __float2half_rn(x);
}

template <typename T>
struct Pair;
template <>
struct Pair<__nv_bfloat16> {
    using Type = __nv_bfloat162;
};
template <>
struct Pair<__half> {
    using Type = __half2;
};

template <typename T>
__device__ __forceinline__ void unpack(const uint4& chunk, float (&x)[chunk_elements]) {
    using P = typename Pair<T>::Type;
    const P* pairs = reinterpret_cast<const P*>(&chunk);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const float2 f = to_float2(pairs[i]);
        x[2 * i] = f.x;
        x[2 * i + 1] = f.y;
    }
}

template <typename T>
__device__ __forceinline__ uint4 pack(const float (&x)[chunk_elements]) {
    using P = typename Pair<T>::Type;
    uint4 chunk;
    P* pairs = reinterpret_cast<P*>(&chunk);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        pairs[i] = P{from_float<T>(x[2 * i]), from_float<T>(x[2 * i + 1])};
    }
    return chunk;
}

}  // namespace mobalab::kernels::cuda
