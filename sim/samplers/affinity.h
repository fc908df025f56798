#pragma once

#include <cstddef>
#include <cstdint>

#include "sim/simd/tiles.h"
#include "sim/streams/philox.h"

namespace mobalab::sim {

/// out[i] = affinity (sim/streams/transforms.h, steps of 2^-30) number first + i of the subsequence, for whole tiles:
/// `count` and `first` are multiples of kSmallAffinityTile; whole multiples of kAffinityTile are fastest.
void fill_affinities(std::int32_t* out, std::size_t count, PhiloxKey key, std::uint64_t subsequence,
                     std::uint64_t first, float exponent);

}  // namespace mobalab::sim
