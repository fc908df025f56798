#pragma once

#include <span>

#include "analysis/binomial_interval.h"

namespace mobalab::analysis {

// Intervals for rows that come in clusters (query blocks of a text, say): rows of one cluster may depend on each other
// in any way, clusters are taken for independent draws. The variance of a ratio R = sum x / sum n over C clusters is
// C / (C - 1) sum (x_c - R n_c)^2 / (sum n)^2 (Taylor linearisation; Cochran, *Sampling Techniques*, 1977, 11.8), with
// C - 1 degrees of freedom.

/// One cluster: the sum of its values, and its rows (or what else the ratio divides by).
struct ClusterTotal {
    double sum = 0.0;
    double weight = 0.0;
};

/// Share of rows that hit; values are 0, 1 or a chance between. Korn-Graubard with the design effect of the clusters,
/// at least 1. Where no row or every row hit nothing tells the design effect, and each cluster counts as one trial.
/// [0, 1] for one cluster; value NaN for none. Weights are counts of rows.
Interval clustered_share(std::span<const ClusterTotal> clusters, double alpha);

/// Mean of values in [0, 1]: Clopper-Pearson on the number of trials whose binomial variance is that of the clusters,
/// with Korn and Graubard's penalty for the degrees of freedom. So it stays in [0, 1] and is skewed as it should be
/// near the ends. Where the mean is 0 or 1 each cluster counts as one trial. [0, 1] for one cluster; value NaN for
/// none.
Interval clustered_mean(std::span<const ClusterTotal> clusters, double alpha);

/// Ratio of non-negative sums that has no upper bound: t interval, cut at 0. [0, inf] for one cluster; value NaN where
/// the weights sum to 0.
Interval clustered_ratio(std::span<const ClusterTotal> clusters, double alpha);

}  // namespace mobalab::analysis
