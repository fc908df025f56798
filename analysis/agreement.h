#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "analysis/poisson_binomial.h"

namespace mobalab::analysis {

/// Counts of one side of a comparison. `design_effect` 1 and `df` +inf mean independent trials; otherwise the trials
/// are clustered and count for trials / design_effect with the penalty of korn_graubard().
struct Counts {
    double misses;
    double trials;
    double design_effect = 1.0;
    double df = 0.0;  ///< <= 0 means independent trials
};

/// One comparison: how surprising it is if both sides estimate the same probability.
struct Agreement {
    double p_value;  ///< two-sided; 0 if any input was NaN
    double z;        ///< signed equivalent normal deviate, for plots (positive: first side sees more misses)
};

/// Counts against an exact miss probability (log_miss, log_hit): exact binomial tails.
Agreement compare_with_exact(const Counts& counts, double log_miss, double log_hit);

/// Misses of trials whose exact miss probabilities differ, each group with its own: tails of the Poisson binomial law,
/// with the effective sample size that design_effect (the variance of the misses over that of independent trials) and
/// its df (<= 0: known) leave. `counts.trials` is not looked at.
Agreement compare_with_exact(const Counts& counts, std::span<const BernoulliTrials> exact);

/// Two sets of counts against each other: Fisher's exact test on (effective) counts.
Agreement compare_counts(const Counts& first, const Counts& second);

/// Holm's step-down adjustment: adjusted p-values in the order given; a comparison disagrees at family-wise error
/// `alpha` when its adjusted p is below alpha. Valid under any dependence. Holm 1979. NaN counts as 0.
std::vector<double> holm_adjust(std::span<const double> p_values);

}  // namespace mobalab::analysis
