#pragma once

#include <array>
#include <cstdint>

#include "experiments/trace/trace.h"

namespace mobalab::experiments {

/// Lags, in tokens, of KeyStatistics::cosine.
inline constexpr std::array<std::int64_t, 4> key_lags = {1, 4, 16, 64};

/// How the keys of one head lie.
struct KeyStatistics {
    double shared_mean = 0.0;          ///< |mean k| / sqrt(mean |k|^2)
    double variance = 0.0;             ///< mean |k - mean k|^2
    double effective_dimension = 0.0;  ///< (tr C)^2 / tr C^2, C the covariance: 1 / sum of its squared spectrum
    std::array<double, key_lags.size()> cosine = {};  ///< mean cosine of centred keys so far apart; NaN: none are
};

KeyStatistics key_statistics(const HeadRows& keys);

}  // namespace mobalab::experiments
