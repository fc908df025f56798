#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "analysis/normal_score.h"

namespace mobalab::analysis {

/// P(fewer than K rivals score above S) for K = 0 ... most_slots, S normal, rivals independent normal, each with its
/// own mean and spread, all independent of S: E_S[P(PoissonBinomial(p_j(S)) <= K - 1)], p_j(s) = P(X_j > s). Rivals
/// whose means differ (by distance under RoPE, say) make a count whose variance is smaller than the binomial one.
///
/// By the trapezoidal rule over S, with twice as many nodes (32 to 1024) until every K changes by less than 1e-6; where
/// the rivals' spreads are below 1/100 of that of S the steps are finer than the nodes and the error is up to 2e-3.
///
/// Throws InputError: a mean or spread that is not finite, a negative spread, most_slots < 0.
std::vector<double> hits_among_rivals(const NormalScore& target, std::span<const NormalScore> rivals,
                                      std::int64_t most_slots);

}  // namespace mobalab::analysis
