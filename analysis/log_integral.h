#pragma once

#include <functional>
#include <span>

namespace mobalab::analysis {

/// log of the integral of exp(log_f) over the real line, for a log_f with one maximum that falls off at least
/// linearly (every log-concave function: order statistics, tails and densities of log-concave laws and their products).
///
/// `guess` and `scale` say where to begin looking and with what step; they cost time when wrong, not accuracy. The
/// window where log_f is within 37 of its maximum is integrated by Boost's trapezoidal rule, which converges
/// exponentially for analytic integrands that vanish at both ends (Trefethen and Weideman 2014).
/// Returns -inf when log_f is -inf wherever it was looked at.
double log_integral(const std::function<double(double)>& log_f, double guess, double scale);

/// Where to begin looking for a maximum, and with what step.
struct Start {
    double guess;
    double scale;
};

/// The same for a sum of such functions, which may have several maxima: `starts` names a place near each (or near none:
/// a place too many costs time only). A maximum that no start leads to and no window of another holds is missed.
double log_integral(const std::function<double(double)>& log_f, std::span<const Start> starts);

}  // namespace mobalab::analysis
