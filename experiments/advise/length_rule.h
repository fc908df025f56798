#pragma once

#include <cstdint>
#include <string>

#include "experiments/advise/evidence.h"

namespace mobalab::experiments {

/// From this share of the variance of scores on, distance is taken to explain them. Of SmolLM2-135M it explains .42 to
/// .89 with rotated keys, by layer, and .05 to .18 before rotation: the limit lies between.
inline constexpr double distance_explains_from = 0.3;

/// What a setting finds at twice the length of a text: its recall at the text's length was off by .078 on average (126
/// heads of SmolLM2-135M, queries near token 4096 against 8192 of the same texts), hits by .069. No better predictor
/// was found: keeping the near blocks and adding far ones is off by .091 and .079.
inline constexpr double mass_error_of_twice_the_length = 0.078;
inline constexpr double hit_error_of_twice_the_length = 0.069;
inline constexpr std::int64_t farthest_length_ratio = 2;

/// A warning where numbers measured at evidence.seq_len are shown for another length: they stay those of the measured
/// one, nothing is extrapolated. Empty where the lengths are the same or nothing was measured.
///
/// Throws analysis::InputError for lengths beyond a factor of farthest_length_ratio where distance explains the scores
/// of the settings that can be advised (mean of distance_r2 over settings and heads; not known counts as explained):
/// nothing can be said there.
std::string length_warning(const Evidence& evidence, std::int64_t asked_seq_len);

}  // namespace mobalab::experiments
