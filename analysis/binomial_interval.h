#pragma once

#include <cstdint>

namespace mobalab::analysis {

/// An estimate of a probability with its interval. 0 <= low <= value <= high <= 1.
struct Interval {
    double low;
    double value;
    double high;
};

/// Clopper-Pearson: P(true value outside) <= alpha whatever the truth. `successes` and `trials` may be fractional (an
/// effective sample size); 0 <= successes <= trials. trials == 0 gives [0, 1] with value NaN.
/// Right at 0 successes and at 1e12 trials (exact beta quantiles in double).
/// Source: Clopper and Pearson 1934; beta form in Brown, Cai, DasGupta 2001.
Interval clopper_pearson(double successes, double trials, double alpha);

/// All p whose likelihood is at least 1 / factor of the maximum. Same arguments, same edge cases.
Interval likelihood_band(double successes, double trials, double factor);

/// Korn-Graubard interval for clustered trials: Clopper-Pearson on an effective sample size
/// n* = n / design_effect * (t_{n-1} / t_{df})^2. design_effect >= 1 is the ratio of the variance with clusters to the
/// binomial one, df the degrees of freedom it was estimated with.
/// Source: Korn and Graubard 1998, Survey Methodology 24, 193-201.
Interval korn_graubard(double successes, double trials, double design_effect, double df, double alpha);

/// Two-sided exact binomial p-value (twice the smaller tail, at most 1) of seeing `successes` of `trials` when the
/// truth is p, given as log p and log(1 - p) so that rare events keep their digits. NaN arguments give 0 (a failed
/// comparison, never a passed one).
double binomial_two_sided_p(double successes, double trials, double log_p, double log_1mp);

}  // namespace mobalab::analysis
