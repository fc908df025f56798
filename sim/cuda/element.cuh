#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace mobalab::sim::cuda {

/// A float as an element of a tensor: rounded to nearest, ties to even.
template <class Element>
__device__ __forceinline__ Element element_of(float x);
template <>
__device__ __forceinline__ float element_of<float>(float x) {
    return x;
}
template <>
__device__ __forceinline__ __nv_bfloat16 element_of<__nv_bfloat16>(float x) {
    return __float2bfloat16_rn(x);
}
template <>
__device__ __forceinline__ __half element_of<__half>(float x) {
    return __float2half_rn(x);
}

}  // namespace mobalab::sim::cuda
