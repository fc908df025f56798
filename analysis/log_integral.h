#pragma once

#include <functional>

namespace mobalab::analysis {

/// log of the integral of exp(log_f) over the real line, for a log_f with one maximum that falls off at least
/// linearly (every log-concave function: order statistics, tails and densities of log-concave laws and their products).
///
/// `guess` and `scale` say where to begin looking and with what step; they cost time when wrong, not accuracy. The
/// window where log_f is within 37 of its maximum is integrated by Boost's trapezoidal rule, which converges
/// exponentially for analytic integrands that vanish at both ends (Trefethen and Weideman 2014).
/// Returns -inf when log_f is -inf wherever it was looked at.
double log_integral(const std::function<double(double)>& log_f, double guess, double scale);

}  // namespace mobalab::analysis
