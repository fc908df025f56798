#pragma once

#include "kernels/cuda/tile/elements.cuh"

// The key convolution of a run of tokens, 8 channels a thread: for kernels that write it, sum it, or both.
namespace mobalab::kernels::cuda {

__device__ __forceinline__ float silu(float x) {
    return __fdividef(x, 1.0f + __expf(-x));
}

/// keys[Width - 1 + i] is token i, the ones before it its past.
template <typename T, int Width, int Keys>
__device__ __forceinline__ uint4 convolved(const float (&w)[chunk_elements][Width],
                                           const float (&keys)[Keys][chunk_elements], int i) {
    float y[chunk_elements];
#pragma unroll
    for (int e = 0; e < chunk_elements; ++e) {
        float z = 0.0f;
#pragma unroll
        for (int l = 0; l < Width; ++l) z = fmaf(w[e][l], keys[Width - 1 + i - l][e], z);
        y[e] = keys[Width - 1 + i][e] + silu(z);
    }
    return pack<T>(y);
}

/// Channels chunk_elements * chunk .. of one head: weight [head_dim, width] of that head, lag 0 first.
template <int Width>
__device__ __forceinline__ void load_weight(const float* weight, int chunk, float (&w)[chunk_elements][Width]) {
#pragma unroll
    for (int e = 0; e < chunk_elements; ++e) {
#pragma unroll
        for (int l = 0; l < Width; ++l) w[e][l] = __ldg(weight + (chunk * chunk_elements + e) * Width + l);
    }
}

/// Calls use(token, convolved chunk) for the tokens [first, last) of a sequence, in order. k: this thread's channels of
/// token 0 of the sequence. The last Width - 1 keys stay in registers.
template <typename T, int Width, typename Use>
__device__ __forceinline__ void convolve_run(const T* k, std::int64_t stride_token,
                                             const float (&w)[chunk_elements][Width], int first, int last,
                                             const Use& use) {
    constexpr int loads_in_flight = 4;
    const auto load = [&](int token) {
        const bool inside = token >= 0 && token < last;
        return inside ? __ldg(reinterpret_cast<const uint4*>(k + token * stride_token)) : uint4{0, 0, 0, 0};
    };
    float keys[Width - 1 + loads_in_flight][chunk_elements];
#pragma unroll
    for (int l = 1; l < Width; ++l) unpack<T>(load(first - l), keys[Width - 1 - l]);
    for (int token0 = first; token0 < last; token0 += loads_in_flight) {
        uint4 ahead[loads_in_flight];
#pragma unroll
        for (int i = 0; i < loads_in_flight; ++i) ahead[i] = load(token0 + i);
#pragma unroll
        for (int i = 0; i < loads_in_flight; ++i) unpack<T>(ahead[i], keys[Width - 1 + i]);
#pragma unroll
        for (int i = 0; i < loads_in_flight; ++i) {
            if (token0 + i < last) use(token0 + i, convolved<T, Width>(w, keys, i));
        }
#pragma unroll
        for (int l = 0; l < Width - 1; ++l) {
#pragma unroll
            for (int e = 0; e < chunk_elements; ++e) keys[l][e] = keys[l + loads_in_flight][e];
        }
    }
}

}  // namespace mobalab::kernels::cuda
