#pragma once

#include <cstdint>

#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/routing/top_k_key.cuh"

namespace mobalab::kernels::cuda {

/// Finds a threshold from scores alone, without keeping any: each lane holds the M largest maxima of its groups of 4
/// columns, for both of its rows. Over the quad these are 4 * M different scores of the row, and 4 * M - 1 of them
/// reach the second smallest. So nothing below that one can be among the best 4 * M - 1. Masked columns are -inf, so
/// too few columns give -inf. Four NaN of a group count as one score, as they should: they pass any threshold.
template <int M>
struct ThresholdFinder {
    float top[2][M];  // largest first

    __device__ __forceinline__ void reset() {
#pragma unroll
        for (int i = 0; i < M; ++i) top[0][i] = top[1][i] = -INFINITY;
    }
    /// d as ptx::Wgmma writes it.
    template <int Count>
    __device__ __forceinline__ void add(const float (&d)[Count]) {
#pragma unroll
        for (int i = 0; i < Count; i += 8) {
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                float x = fmaxf(fmaxf(d[i + 2 * h], d[i + 2 * h + 1]), fmaxf(d[i + 2 * h + 4], d[i + 2 * h + 5]));
#pragma unroll
                for (int m = 0; m < M; ++m) {
                    const float larger = fmaxf(top[h][m], x);
                    x = fminf(top[h][m], x);
                    top[h][m] = larger;
                }
            }
        }
    }
    /// For row lane / 4 + 8 * half.
    __device__ __forceinline__ float threshold(int half) const {
        float smallest = top[half][M - 1], second = top[half][M - 2];
#pragma unroll
        for (int step = 1; step <= 2; step *= 2) {
            const float other_smallest = __shfl_xor_sync(full_warp, smallest, step);
            const float other_second = __shfl_xor_sync(full_warp, second, step);
            second = fminf(fmaxf(smallest, other_smallest), fminf(second, other_second));
            smallest = fminf(smallest, other_smallest);
        }
        return second;
    }
};

}  // namespace mobalab::kernels::cuda
