#pragma once

#include <cstdint>

#include "kernels/cuda/forward/partial_store.cuh"
#include "kernels/cuda/forward/run_softmax.cuh"
#include "kernels/cuda/forward/run_tile.cuh"
#include "kernels/cuda/ptx/matrix.cuh"
#include "kernels/cuda/ptx/warp.cuh"

namespace mobalab::kernels::cuda {

/// Online softmax of the rows lane / 4 and lane / 4 + 8 of a warp's 16 over runs of which each row sees some groups of
/// 16 keys, or (Whole) all or nothing. Hidden keys cost no instruction of their own: their exponents are taken relative
/// to +inf.
template <bool Whole>
struct MaskedSoftmax {
    static constexpr int groups = keys_per_run / 16;

    float maximum[2] = {-INFINITY, -INFINITY};
    float offset[2] = {};
    float sum[2] = {};  ///< of this lane's keys; total() has all of a row

    /// scores: accumulator fragment of 16 rows by a run -> probabilities. seen[h]: bit g for group g of row h's keys.
    /// rescale: what the sum of the values before must be multiplied by.
    __device__ __forceinline__ void step(float (&scores)[keys_per_run / 2], const std::uint32_t (&seen)[2],
                                         float scale_log2, float (&rescale)[2]) {
        float highest[2];
        maxima(scores, seen, highest);
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            highest[h] = fmaxf(maximum[h], quad_max(highest[h]));
            const float before = offset[h];
            offset[h] = softmax_offset(highest[h], scale_log2);
            rescale[h] = maximum[h] == -INFINITY ? 0.0f : ptx::exp2_approx(before - offset[h]);
            maximum[h] = highest[h];
        }
        float added[2][2] = {};
#pragma unroll
        for (int g = 0; g < groups; ++g) {
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const float addend = sees(seen[h], g) ? -offset[h] : -INFINITY;
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    float& score = scores[8 * g + 4 * (i / 2) + 2 * h + i % 2];
                    score = ptx::exp2_approx(fmaf(score, scale_log2, addend));
                    added[h][i % 2] += score;
                }
            }
        }
        float all[2] = {added[0][0] + added[0][1], added[1][0] + added[1][1]};
        const bool strange = all[0] != all[0] || all[1] != all[1];
        if (__any_sync(full_warp, strange)) clear_hidden(scores, seen, all);
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            sum[h] = fmaf(sum[h], rescale[h], all[h]);
        }
    }

    /// Complete in every lane of the row's quad.
    __device__ __forceinline__ float total(int h) const {
        return quad_sum(sum[h]);
    }

private:
    static __device__ __forceinline__ bool sees(std::uint32_t seen, int group) {
        return Whole ? seen != 0 : (seen >> group & 1u) != 0;
    }

    static __device__ __forceinline__ void maxima(const float (&scores)[keys_per_run / 2],
                                                  const std::uint32_t (&seen)[2], float (&highest)[2]) {
        float chains[2][2];
#pragma unroll
        for (int g = 0; g < groups; ++g) {
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const float low = fmaxf(scores[8 * g + 2 * h], scores[8 * g + 2 * h + 1]);
                const float high = fmaxf(scores[8 * g + 4 + 2 * h], scores[8 * g + 4 + 2 * h + 1]);
                float of_group = fmaxf(low, high);
                if (!Whole && !sees(seen[h], g)) of_group = -INFINITY;
                chains[h][g % 2] = g < 2 ? of_group : fmaxf(chains[h][g % 2], of_group);
            }
        }
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            highest[h] = fmaxf(chains[h][0], chains[h][1]);
            if (Whole && seen[h] == 0) highest[h] = -INFINITY;
        }
    }

    /// A hidden score that is NaN or +inf leaves a NaN.
    static __device__ __forceinline__ void clear_hidden(float (&scores)[keys_per_run / 2],
                                                        const std::uint32_t (&seen)[2], float (&added)[2]) {
        float again[2][2] = {};  // in the order of step(): rows without such scores keep their bits
#pragma unroll
        for (int i = 0; i < keys_per_run / 2; ++i) {
            const int h = i / 2 % 2;
            if (!sees(seen[h], i / 8)) scores[i] = 0.0f;
            again[h][i % 2] += scores[i];
        }
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            added[h] = again[h][0] + again[h][1];
        }
    }
};

/// Probabilities as A fragments of the product with values.
template <typename T>
__device__ __forceinline__ void pack_probabilities(const float (&p)[keys_per_run / 2],
                                                   std::uint32_t (&fragments)[keys_per_run / 16][4]) {
#pragma unroll
    for (int s = 0; s < keys_per_run / 16; ++s) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            fragments[s][r] = pack<T>(p[8 * s + 2 * r], p[8 * s + 2 * r + 1]);
        }
    }
}

}  // namespace mobalab::kernels::cuda
