#pragma once

#include <cstdint>
#include <span>

#include "analysis/measured_scores/candidate_rows.h"
#include "analysis/measured_scores/standardised_hit.h"

namespace mobalab::analysis {

// A row's scores can only be standardised by the mean and standard deviation of its own n rivals, z = (S - mean X) / sd
// X with sd^2 = sum (X - mean X)^2 / n. With few rivals that is not the a and r of StandardisedSignal: 1 / sd is above
// 1 on average, and mean X has a variance of its own. For normal scores, S ~ N(a, r^2), X independent N(0, 1), both are
// known exactly, as n sd^2 is chi-squared with n - 1 degrees of freedom and independent of S and mean X:
//   E z = a E[1 / sd],   E[1 / sd] = sqrt(n / 2) Gamma((n - 2) / 2) / Gamma((n - 1) / 2),
//   E z^2 = (a^2 + r^2 + 1 / n) n / (n - 3).
// With 14 rivals z has 1.10 times the mean and, at r = 1, a standard deviation of 1.17.

/// Least number of candidates (rivals and the target) for which z has a finite second moment.
inline constexpr std::int64_t least_standardised_candidates = 5;

/// E[1 / sd] over so many rivals, at least 3; above 1. Throws InputError: fewer.
double mean_inverse_sd(std::int64_t rivals);

/// The signal whose z has these mean and standard deviation over the rows; r is 0 where sampling left less spread than
/// the rivals alone make. Throws InputError: rows that mean_over_rows() refuses or with fewer candidates than
/// least_standardised_candidates, a mean or standard deviation that is not finite, a negative standard deviation.
StandardisedSignal signal_of_sample(double mean, double sd, std::span<const CandidateRows> rows);

}  // namespace mobalab::analysis
