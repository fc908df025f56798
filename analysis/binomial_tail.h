#pragma once

#include <cstdint>

namespace mobalab::analysis {

/// Both tails of a binomial count X ~ Bin(n, p) at a fixed k, in log space.
struct LogTails {
    double upper;  ///< log P(X >= k)
    double lower;  ///< log P(X < k)
};

/// Evaluates the tails for one (n, k) at many p. Boost's ibeta is the same function but underflows below 1e-308, where
/// rare misses still need digits; this sums the probabilities themselves (at most about 15 sqrt(k) + k terms).
class BinomialTail {
public:
    /// n >= 0; k may be anything (k <= 0 and k > n have the obvious answers).
    BinomialTail(std::int64_t n, std::int64_t k);

    /// p is given by both logarithms so that p near 0 and p near 1 keep their digits.
    LogTails at(double log_p, double log_1mp) const;

private:
    double sum_up(double odds) const;
    double sum_down(double odds) const;

    double n_;
    double k_;
    double log_choose_;  ///< log of n over k
};

/// log of n over k for 0 <= k <= n, without the cancellation of log-gamma differences; O(k).
double log_binomial_coefficient(std::int64_t n, std::int64_t k);

}  // namespace mobalab::analysis
