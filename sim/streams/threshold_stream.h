#pragma once

#include <cstdint>

#include "sim/streams/philox.h"

namespace mobalab::sim {

/// The stream of the threshold sampler. A trial compares one uniform a noise block with the probability that a noise
/// block beats this trial's signal score, digit by digit: 16 bits settle all but one block in 65536.
///
///   draw 0:                words w0, w1 are the uniform that gives the signal score
///   draw 1 + b / 8:        halfword b % 8 (w0 low, w0 high, w1 low, ...) is the first digit of noise block b
///   draw kRefineDraw + b:  the next 48 bits of block b, asked for when the first digit ties
inline constexpr std::uint64_t kRefineDraw = std::uint64_t{1} << 47U;

/// Some trials of one stream, all with the same high half of the trial number.
struct TrialRun {
    PhiloxKey key;
    std::uint64_t first_trial;
    std::uint32_t trials;
    std::uint32_t noise_blocks;
};

}  // namespace mobalab::sim
