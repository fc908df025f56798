#include "analysis/poisson_binomial.h"

#include <algorithm>
#include <boost/math/quadrature/gauss.hpp>
#include <boost/math/tools/roots.hpp>
#include <cmath>
#include <cstdint>
#include <vector>

#include "analysis/normal_law.h"

namespace mobalab::analysis {
namespace {

/// Cumulant generating function of the count and its derivatives.
struct Cumulants {
    double value = 0.0;
    double mean = 0.0;
    double variance = 0.0;
};

Cumulants cumulants(std::span<const BernoulliTrials> groups, double theta) {
    Cumulants sum;
    for (const BernoulliTrials& group : groups) {
        const double log_odds = group.log_p - group.log_1mp + theta;
        const double shrink = std::exp(-std::abs(log_odds));
        const double larger = 1.0 / (1.0 + shrink);
        const double smaller = shrink * larger;
        // log(q + p e^theta) = log q + log(1 + odds)
        sum.value += group.trials * (group.log_1mp + std::max(0.0, log_odds) + std::log1p(shrink));
        sum.mean += group.trials * (log_odds > 0.0 ? larger : smaller);
        sum.variance += group.trials * larger * smaller;
    }
    return sum;
}

/// theta K'(theta) - K(theta) where K'(theta) = k. Near 0 that is a difference without digits: there it is the integral
/// of t K''(t) from 0 to theta, which is the same.
double exponent(std::span<const BernoulliTrials> groups, double theta, double k) {
    constexpr double small = 0.1;
    if (std::abs(theta) >= small) return theta * k - cumulants(groups, theta).value;
    const auto slope = [&](double t) { return t * cumulants(groups, t).variance; };
    return boost::math::quadrature::gauss<double, 10>::integrate(slope, 0.0, theta);
}

double normal_upper(double z) {
    return std::exp(log_normal_upper(z));
}

/// P(X >= k) of the side on which `w` is positive; `step` is 1 - exp(-theta) with theta of the same sign.
double lugannani_rice(double w, double step, double sd) {
    constexpr double centre = 1e-4;
    const double density = std::exp(log_normal_density(w));
    if (std::abs(w) < centre) return std::clamp(0.5 + 0.5 * density / sd, 0.0, 1.0);
    return std::clamp(normal_upper(w) + density * (1.0 / (step * sd) - 1.0 / w), 0.0, 1.0);
}

}  // namespace

PoissonBinomialTails::PoissonBinomialTails(std::span<const BernoulliTrials> groups, double successes) {
    double random = 0.0;
    double certain = 0.0;
    std::vector<BernoulliTrials> open;  // neither certain nor impossible
    for (const BernoulliTrials& group : groups) {
        if (!(group.trials > 0.0) || std::isinf(group.log_p)) continue;
        if (std::isinf(group.log_1mp)) {
            certain += group.trials;
            continue;
        }
        open.push_back(group);
        random += group.trials;
        log_none_ += group.trials * group.log_1mp;
        log_all_ += group.trials * group.log_p;
    }
    const double k = successes - certain;
    impossible_ = k < 0.0 || k > random;
    at_none_ = k <= 0.0;
    at_all_ = k >= random;
    if (at_none_ || at_all_) return;

    const auto excess = [&](double theta) { return cumulants(open, theta).mean - k; };
    double reach = 1.0;
    while (excess(-reach) > 0.0 || excess(reach) < 0.0) reach *= 2.0;
    std::uintmax_t iterations = 200;
    const auto [low, high] = boost::math::tools::toms748_solve(
        excess, -reach, reach, boost::math::tools::eps_tolerance<double>(45), iterations);
    theta_ = 0.5 * (low + high);
    w_ = std::copysign(std::sqrt(std::max(0.0, 2.0 * exponent(open, theta_, k))), theta_);
    variance_ = cumulants(open, theta_).variance;
}

double PoissonBinomialTails::upper(double share) const {
    if (at_none_) return 1.0;
    if (at_all_) return std::exp(share * log_all_);
    return lugannani_rice(std::sqrt(share) * w_, -std::expm1(-theta_), std::sqrt(share * variance_));
}

double PoissonBinomialTails::lower(double share) const {
    if (at_all_) return 1.0;
    if (at_none_) return std::exp(share * log_none_);
    return lugannani_rice(-std::sqrt(share) * w_, -std::expm1(theta_), std::sqrt(share * variance_));
}

double PoissonBinomialTails::two_sided(double share) const {
    if (impossible_) return 0.0;
    return std::min(1.0, 2.0 * std::min(upper(share), lower(share)));
}

}  // namespace mobalab::analysis
