#pragma once

#include <span>

namespace mobalab::analysis {

/// Independent trials of one success probability, given by both logarithms so that p near 0 and p near 1 keep their
/// digits.
struct BernoulliTrials {
    double trials;
    double log_p;
    double log_1mp;
};

/// Tails of the number of successes in independent trials of different probabilities (the Poisson binomial law), at one
/// count, by the saddlepoint: Lugannani and Rice 1980 with Daniels' (1987) first continuity correction, exact at no
/// successes and at all of them. From 2 % below to 10 % above the true tail (that at a single success), however rare.
class PoissonBinomialTails {
public:
    /// 0 <= successes <= all trials.
    PoissonBinomialTails(std::span<const BernoulliTrials> groups, double successes);

    /// Twice the smaller of P(X >= successes) and P(X <= successes), at most 1. `share` < 1 counts every trial and
    /// every success by that share: an effective sample size. The saddlepoint does not depend on it.
    double two_sided(double share) const;

private:
    double upper(double share) const;
    double lower(double share) const;

    double log_none_ = 0.0;  ///< log P(X = 0)
    double log_all_ = 0.0;   ///< log P(X = all)
    bool at_none_ = false;   ///< no fewer successes are possible
    bool at_all_ = false;    ///< no more
    bool impossible_ = false;
    double theta_ = 0.0;
    double w_ = 0.0;         ///< signed root of twice the log likelihood ratio
    double variance_ = 0.0;  ///< of the tilted law
};

}  // namespace mobalab::analysis
