#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mobalab::analysis {

/// P(at most i successes), i = 0 ... most, of independent trials of success probabilities p (the Poisson binomial law),
/// by adding one trial after the other: all terms are positive, so the absolute error is below 1e-15 times the number
/// of trials. Trials whose p adds up to less than 1e-12 are left out. O(trials * most). Throws InputError: p outside
/// [0, 1] (NaN too), most < 0.
std::vector<double> poisson_binomial_cdf(std::span<const double> p, std::int64_t most);

}  // namespace mobalab::analysis
