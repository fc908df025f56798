#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mobalab::analysis {

/// A score's mean and standard deviation, both in the unit of the scores. sd >= 0; 0: the score is fixed.
struct NormalScore {
    double mean = 0.0;
    double sd = 0.0;
};

/// P(at most i successes), i = 0 ... most, of independent trials of success probabilities p (the Poisson binomial law),
/// by adding one trial after the other: all terms are positive, so the absolute error is below 1e-15 times the number
/// of trials. Trials whose p adds up to less than 1e-12 are left out. O(trials * most). Throws InputError: p outside
/// [0, 1] (NaN too), most < 0.
std::vector<double> poisson_binomial_cdf(std::span<const double> p, std::int64_t most);

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
