#pragma once

#include <cstddef>
#include <cstdint>

#include "sim/philox.h"

namespace mobalab::sim {

/// Affinities of one tile: two a Philox block, words (w0, w1) and (w2, w3).
inline constexpr std::size_t kAffinityTile = 128;
inline constexpr std::size_t kSmallAffinityTile = 16;

/// out[i] = affinity (sim/transforms.h, steps of 2^-30) number first + i of the subsequence, for whole tiles: `count`
/// and `first` are multiples of kSmallAffinityTile; whole multiples of kAffinityTile are fastest.
void fill_affinities(std::int32_t* out, std::size_t count, PhiloxKey key, std::uint64_t subsequence,
                     std::uint64_t first, float exponent);

}  // namespace mobalab::sim
