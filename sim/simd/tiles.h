#pragma once

#include <cstddef>
#include <cstdint>

namespace mobalab::sim {

/// Affinities of one tile: two a Philox block, words (w0, w1) and (w2, w3).
inline constexpr std::size_t kAffinityTile = 128;
inline constexpr std::size_t kSmallAffinityTile = 16;

/// Scores of one tile of the block sampler: four a Philox block.
inline constexpr std::size_t kScoreTile = 64;

/// How many of a run of scores lie above a bound, and how many at it.
struct AboveEqual {
    std::uint32_t above;
    std::uint32_t equal;
};

}  // namespace mobalab::sim
