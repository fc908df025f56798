#pragma once

#include <cmath>
#include <limits>

namespace mobalab::analysis {

inline constexpr double log_zero = -std::numeric_limits<double>::infinity();

/// log(1 - exp(x)) for x <= 0 without losing digits at either end; rounding above 0 counts as 0. Never -0.0.
/// Source: Maechler 2012, "Accurately computing log(1 - exp(-|a|))".
inline double log_one_minus_exp(double x) {
    if (x >= 0.0) return log_zero;
    constexpr double log_half = -0.693147180559945309417;
    return x > log_half ? std::log(-std::expm1(x)) : std::log1p(-std::exp(x)) + 0.0;
}

/// log(exp(a) + exp(b)).
inline double log_sum_exp(double a, double b) {
    const double high = std::fmax(a, b);
    if (high == log_zero) return log_zero;
    return high + std::log1p(std::exp(std::fmin(a, b) - high));
}

}  // namespace mobalab::analysis
