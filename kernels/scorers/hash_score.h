#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define MOBALAB_HASH_SCORE __host__ __device__ __forceinline__
#else
#define MOBALAB_HASH_SCORE inline
#endif

namespace mobalab::kernels {

/// Half-avalanche steps of a 64-bit hash (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
/// OOPSLA 2014: SplitMix64's mixer).
MOBALAB_HASH_SCORE std::uint64_t mix_bits(std::uint64_t x) {
    x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31U);
}

/// What the scores of one query depend on beside the block: its sequence, head and position, never how calls are cut.
MOBALAB_HASH_SCORE std::uint64_t hash_of_query(std::uint64_t seed, std::int64_t sequence, std::int64_t head,
                                               std::int64_t position) {
    constexpr std::uint64_t step = 0x9e3779b97f4a7c15U;
    std::uint64_t hash = mix_bits(seed + step);
    hash = mix_bits((hash ^ static_cast<std::uint64_t>(sequence)) + step);
    hash = mix_bits((hash ^ static_cast<std::uint64_t>(head)) + step);
    return mix_bits((hash ^ static_cast<std::uint64_t>(position)) + step);
}

/// Score of a block, uniform on the multiples of 2^-24 in [0, 1): the same bits on every backend. Equal scores are ties
/// as any others (one pair of blocks in 2^24).
MOBALAB_HASH_SCORE float hash_score(std::uint64_t query, std::int64_t block) {
    constexpr std::uint64_t step = 0x9e3779b97f4a7c15U;
    return static_cast<float>(mix_bits((query ^ static_cast<std::uint64_t>(block)) + step) >> 40U) * 0x1p-24F;
}

}  // namespace mobalab::kernels
