#pragma once

#include "kernels/cuda/ptx/warp.cuh"

// The best of a block's sub-blocks, which are neighbouring columns of a tile.
//
// The accumulator gives a quad of lanes two rows, and lane l of it columns 2 l and 2 l + 1 of every piece of 8 columns.
// So 2 columns of a group are in one lane, 4 in a pair of lanes, 8 in the quad, 16 in two pieces of the quad. The best
// goes to one column of its group, the others become -inf, which is no candidate: the list then has a block at most
// once, and since groups keep their order, of equal blocks the higher one wins. Lanes share the groups evenly, so that
// each of them sees scores (ThresholdFinder needs that), and send each other only what the other keeps.
namespace mobalab::kernels::cuda {

/// The larger; NaN if one is.
__device__ __forceinline__ float larger_or_nan(float a, float b) {
    float larger;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
    return larger;
}

/// Of two groups that this lane and the one at `Distance` hold parts of: the best of `mine`, while the other lane
/// gets the best of `others`.
template <int Distance>
__device__ __forceinline__ float best_with_lane(float mine, float others) {
    return larger_or_nan(mine, __shfl_xor_sync(full_warp, others, Distance));
}

/// The best over a quad of x[lane % 4].
__device__ __forceinline__ float best_over_quad(const float (&x)[4], bool odd, bool upper) {
    const float low = best_with_lane<1>(odd ? x[1] : x[0], odd ? x[0] : x[1]);
    const float high = best_with_lane<1>(odd ? x[3] : x[2], odd ? x[2] : x[3]);
    return best_with_lane<2>(upper ? high : low, upper ? low : high);
}

/// Groups in a pair of lanes: of two neighbouring pieces, even lanes keep those of the first.
template <int Count>
__device__ __forceinline__ void join_pairs_of_lanes(float (&d)[Count], bool odd) {
#pragma unroll
    for (int i = 0; i < Count; i += 8) {
#pragma unroll
        for (int h = i; h < i + 4; h += 2) {  // of either row
            const float best = best_with_lane<1>(odd ? d[h + 4] : d[h], odd ? d[h] : d[h + 4]);
            d[h] = odd ? -INFINITY : best;
            d[h + 4] = odd ? best : -INFINITY;
        }
    }
}

/// Groups in `Pieces` pieces of a quad: of four neighbouring groups, lane l keeps group l.
template <int Pieces, int Count>
__device__ __forceinline__ void join_quads(float (&d)[Count], bool odd, bool upper) {
    constexpr int step = 4 * Pieces;  // values from one group to the next
#pragma unroll
    for (int i = 0; i < Count; i += 4 * step) {
#pragma unroll
        for (int h = i; h < i + 4; h += 2) {  // of either row
            float x[4];
#pragma unroll
            for (int g = 0; g < 4; ++g) {
                x[g] = d[h + step * g];
                if constexpr (Pieces == 2) {
                    x[g] = larger_or_nan(x[g], d[h + step * g + 4]);
                    d[h + step * g + 4] = -INFINITY;
                }
            }
            const float best = best_over_quad(x, odd, upper);
#pragma unroll
            for (int g = 0; g < 4; ++g) {
                d[h + step * g] = odd == (g % 2 == 1) && upper == (g >= 2) ? best : -INFINITY;
            }
        }
    }
}

/// Groups of 2^Shift columns; d as ptx::Wgmma writes it.
template <int Shift, int Count>
__device__ __forceinline__ void best_of_groups(float (&d)[Count], int lane) {
    static_assert(Count % 32 == 0);
#pragma unroll
    for (int i = 0; i < Count; i += 2) {
        d[i] = larger_or_nan(d[i], d[i + 1]);
        d[i + 1] = -INFINITY;
    }
    const bool odd = lane % 2 == 1, upper = lane % 4 >= 2;
    if constexpr (Shift == 2) join_pairs_of_lanes(d, odd);
    if constexpr (Shift == 3) join_quads<1>(d, odd, upper);
    if constexpr (Shift == 4) join_quads<2>(d, odd, upper);
}

inline constexpr int most_sub_shift = 4;

/// Of 2^shift columns, shift from 1 to most_sub_shift.
template <int Count>
__device__ __forceinline__ void best_of_groups(float (&d)[Count], int shift, int lane) {
    switch (shift) {  // the same in all threads
        case 1:
            return best_of_groups<1>(d, lane);
        case 2:
            return best_of_groups<2>(d, lane);
        case 3:
            return best_of_groups<3>(d, lane);
        default:
            return best_of_groups<4>(d, lane);
    }
}

}  // namespace mobalab::kernels::cuda
