#pragma once

#include <memory>

#include "sim/samplers/sampler.h"

namespace mobalab::sim {

/// Model text (analysis/text_keys.h), method vector: every key's coordinates, in double, for any scorer with parts.
///
/// A trial draws the needle's key first, so that its query is known, and then runs the AR(1) processes from the needle
/// outwards, to the end of the candidates and to the beginning of the text: a stationary Gaussian process is the same
/// in both directions. Blocks are scored as they are complete, so that no key is kept.
///
/// Throws analysis::InputError for a block of more than kMostTextTurns coordinates, and for a point too large for the
/// counter layout.
std::unique_ptr<Sampler> make_text_sampler(const SamplerInput& input);

/// A sampler holds the turns of the tokens of a block, block_size * head_dim numbers: at most this many.
inline constexpr std::int64_t kMostTextTurns = std::int64_t{1} << 25U;

}  // namespace mobalab::sim
