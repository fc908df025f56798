#pragma once

#include "sim/simd/lanes.h"
#include "sim/simd/tiles.h"

namespace mobalab::sim::MOBALAB_SIMD {

/// Sum of a run of affinities. The fixed inner width is what lets the compiler keep short runs in vector registers.
inline std::int64_t sum_affinities(const std::int32_t* affinities, std::size_t count) {
    constexpr std::size_t kWidth = 16;
    std::int64_t total = 0;
    for (; count >= kWidth; count -= kWidth, affinities += kWidth) {
        for (std::size_t i = 0; i < kWidth; ++i) {
            total += affinities[i];
        }
    }
    for (std::size_t i = 0; i < count; ++i) {
        total += affinities[i];
    }
    return total;
}

/// sums[i] = affinities of the i-th run of block_size.
inline void sum_blocks(std::int64_t* sums, const std::int32_t* affinities, std::size_t block_size, std::size_t blocks) {
    if (block_size == 1) {
        for (std::size_t i = 0; i < blocks; ++i) {
            sums[i] = affinities[i];
        }
        return;
    }
    if (block_size == 16) {  // a width known to the compiler stays in registers
        for (std::size_t i = 0; i < blocks; ++i) {
            sums[i] = sum_affinities(affinities + 16 * i, 16);
        }
        return;
    }
    for (std::size_t i = 0; i < blocks; ++i) {
        sums[i] = sum_affinities(affinities + block_size * i, block_size);
    }
}

/// Scores above and at `bound`; fewer than 2^32 scores.
inline AboveEqual compare_scores(const float* scores, std::size_t count, float bound) {
    std::uint32_t above = 0;
    std::uint32_t equal = 0;
    for (std::size_t i = 0; i < count; ++i) {
        above += scores[i] > bound ? 1U : 0U;
        equal += scores[i] == bound ? 1U : 0U;
    }
    return {above, equal};
}

}  // namespace mobalab::sim::MOBALAB_SIMD
