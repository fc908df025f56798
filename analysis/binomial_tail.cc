#include "analysis/binomial_tail.h"

#include <cmath>

#include "analysis/log_space.h"

namespace mobalab::analysis {
namespace {

/// Terms below this fraction of the sum change nothing.
constexpr double negligible = 1e-17;

}  // namespace

double log_binomial_coefficient(std::int64_t n, std::int64_t k) {
    constexpr double almost_overflow = 1e280;
    double sum = 0.0;
    double product = 1.0;
    for (std::int64_t i = 1; i <= k; ++i) {
        product *= static_cast<double>(n - k + i) / static_cast<double>(i);
        if (product > almost_overflow) {
            sum += std::log(product);
            product = 1.0;
        }
    }
    return sum + std::log(product);
}

BinomialTail::BinomialTail(std::int64_t n, std::int64_t k)
    : n_(static_cast<double>(n)),
      k_(static_cast<double>(k)),
      log_choose_(k >= 0 && k <= n ? log_binomial_coefficient(n, k) : log_zero) {}

LogTails BinomialTail::at(double log_p, double log_1mp) const {
    if (k_ <= 0.0) return {0.0, log_zero};
    if (k_ > n_ || log_p == log_zero) return {log_zero, 0.0};
    if (log_1mp == log_zero) return {0.0, log_zero};
    const double log_odds = log_p - log_1mp;
    const double log_pmf_k = log_choose_ + k_ * log_p + (n_ - k_) * log_1mp;
    if (n_ * std::exp(log_p) < k_) {
        const double upper = std::fmin(0.0, log_pmf_k + std::log(sum_up(std::exp(log_odds))));
        return {upper, log_one_minus_exp(upper)};
    }
    const double log_pmf_below = log_pmf_k + std::log(k_ / (n_ - k_ + 1.0)) - log_odds;
    const double lower = std::fmin(0.0, log_pmf_below + std::log(sum_down(std::exp(log_odds))));
    return {log_one_minus_exp(lower), lower};
}

/// sum over i >= k of pmf(i) / pmf(k).
double BinomialTail::sum_up(double odds) const {
    double sum = 1.0;
    double term = 1.0;
    for (double i = k_; i < n_; i += 1.0) {
        term *= (n_ - i) / (i + 1.0) * odds;
        sum += term;
        if (term < negligible * sum) break;
    }
    return sum;
}

/// sum over i < k of pmf(i) / pmf(k - 1).
double BinomialTail::sum_down(double odds) const {
    double sum = 1.0;
    double term = 1.0;
    for (double i = k_ - 1.0; i > 0.0; i -= 1.0) {
        term *= i / ((n_ - i + 1.0) * odds);
        sum += term;
        if (term < negligible * sum) break;
    }
    return sum;
}

}  // namespace mobalab::analysis
