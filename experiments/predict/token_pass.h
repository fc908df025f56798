#pragma once

#include <cstdint>
#include <span>

#include "analysis/measured_scores/token_statistics.h"
#include "experiments/predict/head_scores.h"

namespace mobalab::experiments {

/// Token statistics of the rows, with needles and masses that lie before the own block of each of these block sizes (a
/// size of which no row has a past block, or a needle, gets no population). Throws InputError where no row's scores
/// differ.
analysis::TokenStatistics token_statistics(const HeadScores& scores, std::span<const std::int64_t> block_sizes);

}  // namespace mobalab::experiments
