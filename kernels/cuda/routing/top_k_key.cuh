#pragma once

#include <cstdint>

#include "kernels/cuda/ptx/warp.cuh"

// What every exact top-k has in common: keys that order scores and blocks at once, and the rows of a warp.
//
// The accumulator fragment of a warpgroup product gives a quad of lanes two rows (lane / 4 and lane / 4 + 8 of the
// warp) and each lane a quarter of the columns.
//
// Keys: order-preserving bits of the score above the block number, so one unsigned comparison is the tie rule of
// kernels.h (the higher block wins). Blocks are unique, so the order is total and the order of arrival never matters.
// NaN, of whatever bits, has the highest bits of all: it beats every number. A score of -inf is no candidate.
namespace mobalab::kernels::cuda {

using Key = unsigned long long;
inline constexpr Key empty_key = 0;  // as any key with zeros in the upper half
inline constexpr int warp_rows = 16;

/// Bits in the order of the scores.
__device__ __forceinline__ std::uint32_t ordered_bits(float score) {
    // -0 becomes +0 and any NaN the one of the hardware: equal scores have equal bits.
    const std::uint32_t bits = __float_as_uint(score + 0.0f);
    return bits ^ (static_cast<std::uint32_t>(static_cast<int>(bits) >> 31) | 0x80000000u);
}
__device__ __forceinline__ Key make_key(float score, std::uint32_t block) {
    return (static_cast<Key>(ordered_bits(score)) << 32) | block;
}
__device__ __forceinline__ int key_block(Key key) {
    return key >> 32 == 0 ? -1 : static_cast<int>(static_cast<std::uint32_t>(key));
}
/// The score of the upper half of a key; -inf of an empty one.
__device__ __forceinline__ float score_of_bits(std::uint32_t ordered) {
    if (ordered == 0) return -INFINITY;
    return __uint_as_float((ordered & 0x80000000u) != 0 ? ordered & 0x7fffffffu : ~ordered);
}
__device__ __forceinline__ float key_score(Key key) {
    return score_of_bits(static_cast<std::uint32_t>(key >> 32));
}

/// What the scores that count reach at least: all but -inf.
inline constexpr float lowest_floor = -3.402823466e+38f;

/// The smallest float above x; above +inf, and of NaN, something that fmaxf() ignores or that only NaN would have to
/// beat.
__device__ __forceinline__ float next_above(float x) {
    const auto bits = __float_as_int(x);
    if (x == 0.0f) return __int_as_float(1);
    return __int_as_float(x > 0.0f ? bits + 1 : bits - 1);
}
/// The value of row `lane % 16`, to every lane, from the two values that each quad has for its rows.
__device__ __forceinline__ int of_row(int value0, int value1, int lane) {
    const int from = 4 * (lane % 8);
    const int a = __shfl_sync(full_warp, value0, from), b = __shfl_sync(full_warp, value1, from);
    return lane % warp_rows < 8 ? a : b;
}

/// Sorts a to the front of b. Written out because the compiler compares twice, once for each of maximum and minimum.
__device__ __forceinline__ void larger_first(Key& a, Key& b) {
    asm("{\n"
        ".reg .pred p;\n"
        ".reg .b64 larger;\n"
        "setp.gt.u64 p, %1, %0;\n"
        "selp.b64 larger, %1, %0, p;\n"
        "selp.b64 %1, %0, %1, p;\n"
        "mov.b64 %0, larger;\n"
        "}"
        : "+l"(a), "+l"(b));
}

__device__ __forceinline__ void larger_first(std::uint32_t& a, std::uint32_t& b) {
    const std::uint32_t larger = max(a, b);
    b = min(a, b);
    a = larger;
}

/// Sorts 4 keys, largest first.
template <typename Integer>
__device__ __forceinline__ void sort(Integer (&k)[4]) {
    larger_first(k[0], k[1]);
    larger_first(k[2], k[3]);
    larger_first(k[0], k[2]);
    larger_first(k[1], k[3]);
    larger_first(k[1], k[2]);
}

/// Sorts 8 keys, largest first, in 19 comparisons.
template <typename Integer>
__device__ __forceinline__ void sort(Integer (&k)[8]) {
    constexpr int pairs[19][2] = {{0, 2}, {1, 3}, {4, 6}, {5, 7}, {0, 4}, {1, 5}, {2, 6}, {3, 7}, {0, 1}, {2, 3},
                                  {4, 5}, {6, 7}, {2, 4}, {3, 5}, {1, 4}, {3, 6}, {1, 2}, {3, 4}, {5, 6}};
#pragma unroll
    for (int i = 0; i < 19; ++i) larger_first(k[pairs[i][0]], k[pairs[i][1]]);
}

/// Sorts a bitonic sequence, largest first.
template <typename Integer, int Size>
__device__ __forceinline__ void merge_bitonic(Integer (&k)[Size]) {
#pragma unroll
    for (int distance = Size / 2; distance > 0; distance /= 2) {
#pragma unroll
        for (int j = 0; j < Size; ++j) {
            if ((j & distance) == 0) larger_first(k[j], k[j + distance]);
        }
    }
}

}  // namespace mobalab::kernels::cuda
