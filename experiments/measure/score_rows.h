#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "experiments/measure/head_outcomes.h"

namespace mobalab::experiments {

/// Entries of so many rows, every one NaN, and no distances.
ScoreOutcomes empty_score_outcomes(std::int64_t rows);

/// Fills entry `row` of `outcomes` from the scores and the masses of the row's candidates and the needle's block (-1:
/// none), and adds its scores to `distances`; does neither where the row has no entries.
void add_score_row(std::span<const double> scores, std::span<const double> masses, std::int64_t needle_block,
                   std::size_t row, ScoreOutcomes& outcomes, DistanceSums& distances);

/// sum += more.
void add_distances(const DistanceSums& more, DistanceSums& sum);

}  // namespace mobalab::experiments
