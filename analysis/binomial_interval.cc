#include "analysis/binomial_interval.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <boost/math/special_functions/beta.hpp>
#include <boost/math/tools/roots.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>

#include "analysis/effective_sample.h"

namespace mobalab::analysis {
namespace {

using boost::math::ibeta;
using boost::math::ibeta_inv;
using boost::math::ibetac;
using boost::math::ibetac_inv;

void check_counts(double successes, double trials) {
    if (!(trials >= 0.0) || !(successes >= 0.0) || !(successes <= trials) || std::isinf(trials)) {
        throw std::invalid_argument(fmt::format(
            "successes = {} of trials = {}: must satisfy 0 <= successes <= trials < inf", successes, trials));
    }
}

void check_alpha(double alpha) {
    if (!(alpha > 0.0 && alpha < 1.0)) {
        throw std::invalid_argument(fmt::format("alpha = {}: must be between 0 and 1; for example 0.05", alpha));
    }
}

Interval nothing_known() {
    return {0.0, std::numeric_limits<double>::quiet_NaN(), 1.0};
}

double quantile_of_t(double df, double alpha) {
    return boost::math::quantile(boost::math::complement(boost::math::students_t(df), 0.5 * alpha));
}

/// x below (upper: above) which Beta(a, b) has the probability `tail`. Boost's series gives up on some a and b above
/// 1e10; the normal law is right to 1e-5 of its own spread there.
double beta_quantile(double a, double b, double tail, bool upper) {
    try {
        return upper ? ibetac_inv(a, b, tail) : ibeta_inv(a, b, tail);
    } catch (const boost::math::evaluation_error&) {
        const double mean = a / (a + b);
        const double reach = boost::math::quantile(boost::math::complement(boost::math::normal(), tail)) *
                             std::sqrt(mean * (1.0 - mean) / (a + b));
        return upper ? mean + reach : mean - reach;
    }
}

/// Upper end of the likelihood band as a distance from successes / trials; successes < trials.
double band_reach(double successes, double trials, double log_factor) {
    const double failures = trials - successes;
    if (successes == 0.0) return -std::expm1(-log_factor / trials);
    const double p = successes / trials;
    const double room = failures / trials;
    // Log-likelihood lost at p + reach, from the differences themselves: no cancellation at any number of trials.
    const auto excess = [&](double reach) {
        return -successes * std::log1p(reach / p) - failures * std::log1p(-reach / room) - log_factor;
    };
    constexpr int bits = std::numeric_limits<double>::digits - 2;
    std::uintmax_t iterations = 200;
    // The loss is at least quadratic with curvature trials / max p(1-p) = 4 trials, and infinite at the end.
    const double far = std::min(room, std::sqrt(0.5 * log_factor / trials) * 1.001);
    if (!(excess(far * (1.0 - 1e-15)) > 0.0)) return far;
    const auto [low, high] = boost::math::tools::toms748_solve(
        excess, 0.0, far * (1.0 - 1e-15), boost::math::tools::eps_tolerance<double>(bits), iterations);
    return 0.5 * (low + high);
}

}  // namespace

double effective_trials(double trials, double design_effect, double df, double alpha) {
    const double reduced = trials / design_effect;
    const double df_if_independent = trials - 1.0;
    if (df <= 0.0 || std::isinf(df) || df >= df_if_independent) return reduced;
    const double ratio = quantile_of_t(df_if_independent, alpha) / quantile_of_t(df, alpha);
    return reduced * ratio * ratio;
}

Interval clopper_pearson(double successes, double trials, double alpha) {
    check_counts(successes, trials);
    check_alpha(alpha);
    if (trials == 0.0) return nothing_known();
    const double failures = trials - successes;
    const double half = 0.5 * alpha;
    const double value = successes / trials;
    // The two ends without a root search also cover counts below one, where Boost's inverse has little to hold on to.
    double low = 0.0;
    double high = 1.0;
    if (failures == 0.0) {
        low = std::exp(std::log(half) / trials);
    } else if (successes > 0.0) {
        low = beta_quantile(successes, failures + 1.0, half, false);
    }
    if (successes == 0.0) {
        high = -std::expm1(std::log(half) / trials);
    } else if (failures > 0.0) {
        high = beta_quantile(successes + 1.0, failures, half, true);
    }
    return {std::min(low, value), value, std::max(high, value)};
}

Interval likelihood_band(double successes, double trials, double factor) {
    check_counts(successes, trials);
    if (!(factor >= 1.0) || std::isinf(factor)) {
        throw std::invalid_argument(fmt::format("factor = {}: must be at least 1 and finite; for example 10", factor));
    }
    if (trials == 0.0) return nothing_known();
    const double log_factor = std::log(factor);
    const double value = successes / trials;
    const double up = successes < trials ? band_reach(successes, trials, log_factor) : 0.0;
    const double down = successes > 0.0 ? band_reach(trials - successes, trials, log_factor) : 0.0;
    return {std::max(0.0, value - down), value, std::min(1.0, value + up)};
}

Interval korn_graubard(double successes, double trials, double design_effect, double df, double alpha) {
    check_counts(successes, trials);
    check_alpha(alpha);
    if (!(design_effect >= 1.0) || std::isinf(design_effect)) {
        throw std::invalid_argument(
            fmt::format("design_effect = {}: must be at least 1 and finite; nearest valid value is 1", design_effect));
    }
    if (!(df > 0.0))
        throw std::invalid_argument(fmt::format("df = {}: must be positive; for example clusters - 1", df));
    if (trials == 0.0) return nothing_known();
    const double value = successes / trials;
    const double effective = effective_trials(trials, design_effect, df, alpha);
    const Interval interval = clopper_pearson(std::min(effective, value * effective), effective, alpha);
    return {std::min(interval.low, value), value, std::max(interval.high, value)};
}

double binomial_two_sided_p(double successes, double trials, double log_p, double log_1mp) {
    if (std::isnan(successes) || std::isnan(trials) || std::isnan(log_p) || std::isnan(log_1mp)) return 0.0;
    check_counts(successes, trials);
    if (trials == 0.0) return 1.0;
    const double failures = trials - successes;
    double upper = 1.0;  // P(X >= successes)
    double lower = 1.0;  // P(X <= successes)
    const double p = std::exp(log_p);
    const double q = std::exp(log_1mp);
    if (successes > 0.0) {
        if (failures == 0.0) {
            upper = std::exp(trials * log_p);
        } else {
            upper = p < q ? ibeta(successes, failures + 1.0, p) : ibetac(failures + 1.0, successes, q);
        }
    }
    if (failures > 0.0) {
        if (successes == 0.0) {
            lower = std::exp(trials * log_1mp);
        } else {
            lower = p < q ? ibetac(successes + 1.0, failures, p) : ibeta(failures, successes + 1.0, q);
        }
    }
    return std::min(1.0, 2.0 * std::min(upper, lower));
}

}  // namespace mobalab::analysis
