#pragma once

#include <cstdint>
#include <span>

#include "sim/streams/philox.h"

namespace mobalab::sim {

/// Fills `out` with independent standard normals, bit-identical on every machine and for every way of cutting the work:
/// out[4 i + j] is the j-th normal of Philox block (key, subsequence, first_draw + i), words (w0, w1) giving the first
/// two and (w2, w3) the last two (sim/streams/transforms.h, normal_pair). Thread-safe; any size. Cut work at multiples
/// of 4 elements to fill one long stream from several calls or threads.
void fill_gaussian(std::span<float> out, PhiloxKey key, std::uint64_t subsequence, std::uint64_t first_draw = 0);

}  // namespace mobalab::sim
