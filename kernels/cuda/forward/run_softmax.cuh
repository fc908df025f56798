#pragma once

#include <cstdint>

#include "kernels/cuda/forward/partial_store.cuh"
#include "kernels/cuda/ptx/matrix.cuh"

namespace mobalab::kernels::cuda {

/// scores: a warp's accumulator fragment, 16 rows by the keys of a run -> the maximum of each row, complete in every
/// lane of its quad.
template <int Count>
__device__ __forceinline__ void row_maxima(const float (&scores)[Count], float (&maximum)[2]) {
    // Two chains a row, here and below: what bounds a warp is the latency of dependent instructions.
    float highest[2][2];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        highest[i / 2][i % 2] = fmaxf(scores[i], scores[i + 4]);
    }
#pragma unroll
    for (int i = 8; i < Count; ++i) {
        highest[i / 2 % 2][i % 2] = fmaxf(highest[i / 2 % 2][i % 2], scores[i]);
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        maximum[h] = quad_max(fmaxf(highest[h][0], highest[h][1]));
    }
}

/// Natural logarithm of 2^offset sum: the lse of kernels.h, +inf of a row that nothing was summed for.
__device__ __forceinline__ float log_of_sum(float offset, float sum) {
    constexpr float ln2 = 0.693147180559945309f;
    return sum != 0.0f ? (offset + __log2f(sum)) * ln2 : INFINITY;
}

/// What exponents are taken relative to: 0 where nothing is above -inf.
__device__ __forceinline__ float softmax_offset(float maximum, float scale_log2) {
    return maximum == -INFINITY ? 0.0f : maximum * scale_log2;
}

/// scores -> 2^(scale_log2 * score - offset), packed as A fragments, and their sum per row.
template <typename T, int Count>
__device__ __forceinline__ void exponentials(float (&scores)[Count], float scale_log2, const float (&offset)[2],
                                             std::uint32_t (&probabilities)[Count / 8][4], float (&sum)[2]) {
    float added[2][2] = {};
#pragma unroll
    for (int i = 0; i < Count; ++i) {
        scores[i] = ptx::exp2_approx(fmaf(scores[i], scale_log2, -offset[i / 2 % 2]));
        added[i / 2 % 2][i % 2] += scores[i];
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        sum[h] = quad_sum(added[h][0] + added[h][1]);
    }
#pragma unroll
    for (int s = 0; s < Count / 8; ++s) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            probabilities[s][r] = pack<T>(scores[8 * s + 2 * r], scores[8 * s + 2 * r + 1]);
        }
    }
}

/// Softmax of one run, or of one after another (Milakov and Gimelshein, "Online normalizer calculation for softmax",
/// 2018): per row the maximum so far, what exponents are relative to, and their sum.
struct OnlineSoftmax {
    float maximum[2] = {-INFINITY, -INFINITY};
    float offset[2] = {}, sum[2] = {};

    template <typename T, int Count>
    __device__ __forceinline__ void first(float (&scores)[Count], float scale_log2,
                                          std::uint32_t (&probabilities)[Count / 8][4]) {
        row_maxima(scores, maximum);
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            offset[h] = softmax_offset(maximum[h], scale_log2);
        }
        exponentials<T>(scores, scale_log2, offset, probabilities, sum);
    }
    /// rescale: what the values of the runs before must be multiplied by.
    template <typename T, int Count>
    __device__ __forceinline__ void next(float (&scores)[Count], float scale_log2,
                                         std::uint32_t (&probabilities)[Count / 8][4], float (&rescale)[2]) {
        float highest[2], added[2];
        row_maxima(scores, highest);
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            highest[h] = fmaxf(maximum[h], highest[h]);
            const float before = offset[h];
            offset[h] = softmax_offset(highest[h], scale_log2);
            rescale[h] = maximum[h] == -INFINITY ? 0.0f : ptx::exp2_approx(before - offset[h]);
            maximum[h] = highest[h];
        }
        exponentials<T>(scores, scale_log2, offset, probabilities, added);
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            sum[h] = fmaf(sum[h], rescale[h], added[h]);
        }
    }
};

}  // namespace mobalab::kernels::cuda
