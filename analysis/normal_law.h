#pragma once

#include "analysis/score_law.h"

namespace mobalab::analysis {

/// Logarithms of the standard normal law, with full relative accuracy of the probability at any finite x.
///
/// log Q(x) = log P(Z > x); log P(Z <= x) is log_normal_upper(-x).
double log_normal_upper(double x);

/// log of the density, -x^2/2 - log(2 pi)/2.
double log_normal_density(double x);

/// z with P(Z > z) = p, for p in (0, 1); +inf at 0, -inf at 1.
double normal_upper_quantile(double p);

/// The normal law with mean and sd > 0 (both in the unit of the score).
class NormalScoreLaw final : public ScoreLaw {
public:
    NormalScoreLaw(double mean, double sd);
    LogLaw at(const Score& score) const override;

private:
    double mean_;
    double sd_;
    double log_sd_;
};

}  // namespace mobalab::analysis
