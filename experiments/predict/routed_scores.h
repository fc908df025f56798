#pragma once

#include <span>
#include <vector>

#include "experiments/measure/head_outcomes.h"
#include "experiments/predict/head_scores.h"

namespace mobalab::experiments {

/// What routing by exact block means finds among the rows of HeadScores: the measurement itself, on rows that
/// predictions are made from.
struct RoutedShares {
    double needle_hit;   ///< NaN: no row has a needle
    double mass_recall;  ///< NaN: no row has a candidate
    bool keeps_all;      ///< no row has more candidates than slots
};

/// Settings of scorer `mean` with topk >= 1; higher blocks win ties, keep_first as in the kernels.
std::vector<RoutedShares> routed_shares(const HeadScores& scores, std::span<const RouteSetting> settings);

}  // namespace mobalab::experiments
