#pragma once

#include <cstdint>

#include "kernels/cuda/forward/partial_store.cuh"
#include "kernels/cuda/ptx/matrix.cuh"

namespace mobalab::kernels::cuda {

/// scores: a warp's accumulator fragment, 16 rows by the keys of a run -> probabilities relative to the row's maximum,
/// packed as A fragments; offset and sum per row.
template <typename T, int Count>
__device__ __forceinline__ void softmax(float (&scores)[Count], float scale_log2,
                                        std::uint32_t (&probabilities)[Count / 8][4], float (&offset)[2],
                                        float (&sum)[2]) {
    // Two chains a row: what bounds a warp here is the latency of dependent instructions.
    float highest[2][2], added[2][2] = {};
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
        const float maximum = quad_max(fmaxf(highest[h][0], highest[h][1]));
        offset[h] = maximum == -INFINITY ? 0.0f : maximum * scale_log2;
    }
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

}  // namespace mobalab::kernels::cuda
