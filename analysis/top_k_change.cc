#include "analysis/top_k_change.h"

#include <algorithm>
#include <boost/math/distributions/beta.hpp>
#include <boost/math/special_functions/owens_t.hpp>
#include <cmath>
#include <numbers>

#include "analysis/normal_law.h"

namespace mobalab::analysis {
namespace {

constexpr double negligible = 1e-18;  ///< probability outside the square that is integrated
constexpr int nodes = 64;             ///< along each axis; the integrand is a smooth bell, so trapezoids converge fast

double density(double x) {
    return std::exp(log_normal_density(x));
}

double upper(double x) {
    return std::exp(log_normal_upper(x));
}

/// sin and half-angle functions of the correlation's angle, each without cancellation at small angles.
struct Correlation {
    explicit Correlation(double angle)
        : sine(std::sin(angle)), half_sine(std::sin(angle / 2)), half_tangent(std::tan(angle / 2)) {}
    double sine;
    double half_sine;
    double half_tangent;
};

/// F and G at (u + v, u - v).
struct Orthants {
    double below;
    double above;
};

/// (y - rho x) / sin(angle) with y - x = gap.
double standardised(double x, double gap, const Correlation& correlation) {
    return (gap + 2 * correlation.half_sine * correlation.half_sine * x) / correlation.sine;
}

double owens(double x, double gap, const Correlation& correlation) {
    const double at = x == 0.0 ? 1e-300 : x;  // T is continuous there, its argument is not
    return boost::math::owens_t(at, standardised(x, gap, correlation) / at);
}

Orthants orthants(double x, double y, const Correlation& correlation) {
    const double gap = y - x;
    const double opposite = x * y > 0.0 || (x * y == 0.0 && x + y >= 0.0) ? 0.0 : 0.5;
    const double common = owens(x, gap, correlation) + owens(y, -gap, correlation) + opposite;
    return {std::clamp(0.5 * (upper(-x) + upper(-y)) - common, 0.0, 1.0),
            std::clamp(0.5 * (upper(x) + upper(y)) - common, 0.0, 1.0)};
}

/// d2/dxdy [G^K] F^(c-K) C(c, K) at x = u + v, y = u - v.
double integrand(double x, double y, double candidates, int slots, const Correlation& correlation, double log_choices) {
    const Orthants at = orthants(x, y, correlation);
    if (at.above <= 0.0 || at.below <= 0.0) {
        return 0.0;
    }
    const double k = slots;
    const double gap = y - x;
    const double joint = density(x) * density(standardised(x, gap, correlation)) / correlation.sine;
    const double towards_x = density(x) * upper(standardised(x, gap, correlation));
    const double towards_y = density(y) * upper(standardised(y, -gap, correlation));
    const double pairs = k * ((k - 1) * towards_x * towards_y / at.above + joint);
    return pairs * std::exp(log_choices + (k - 1) * std::log(at.above) + (candidates - k) * std::log(at.below));
}

}  // namespace

double top_k_change_probability(double candidates, int slots, double angle) {
    const double k = slots;
    if (candidates <= k || angle <= 0.0) {
        return 0.0;
    }
    const Correlation correlation(angle);
    const double log_choices = std::lgamma(candidates + 1) - std::lgamma(k + 1) - std::lgamma(candidates - k + 1);
    // The K-th largest of either coordinate lies in [low, high] but for `negligible`.
    const boost::math::beta_distribution<> rank(k, candidates - k + 1);
    const double low = normal_upper_quantile(boost::math::quantile(boost::math::complement(rank, negligible)));
    const double high = normal_upper_quantile(boost::math::quantile(rank, negligible));
    const double most = std::min(9.0 * correlation.half_tangent, (high - low) / 2);
    const double step_u = (high - low) / nodes;
    const double step_v = 2 * most / nodes;
    double same = 0.0;
    for (int i = 0; i <= nodes; ++i) {
        for (int j = 0; j <= nodes; ++j) {
            const double u = low + i * step_u;
            const double v = -most + j * step_v;
            same += integrand(u + v, u - v, candidates, slots, correlation, log_choices);
        }
    }
    return std::clamp(1.0 - 2.0 * same * step_u * step_v, 0.0, 1.0);  // dx dy = 2 du dv
}

}  // namespace mobalab::analysis
