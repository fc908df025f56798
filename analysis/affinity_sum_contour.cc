#include "analysis/affinity_sum_contour.h"

#include <algorithm>
#include <array>
#include <boost/math/constants/constants.hpp>
#include <boost/math/special_functions/beta.hpp>
#include <cmath>
#include <complex>
#include <cstddef>
#include <numeric>
#include <vector>

#include "analysis/log_space.h"

namespace mobalab::analysis {
namespace {

using boost::math::constants::pi;
using boost::math::constants::two_pi;

/// Quadrature nodes t_i = tanh(u_i) of the tilted density of one affinity, exp(theta t) (1 - t^2)^((d-3)/2) dt, which
/// in u is exp(theta tanh u) sech^(d-1)(u) du: analytic and at least exponentially decaying, so that equal steps in u
/// give double precision for the density itself and for its transform up to the frequencies the contour needs.
struct TiltedKey {
    std::vector<double> offset;  ///< t_i - x / R
    std::vector<double> weight;  ///< sums to 1
    double log_moment = 0.0;     ///< log E[exp(theta (t - x / R))] under the untilted law
    double variance = 0.0;       ///< of t under the tilted law
};

/// Weights below exp(-39) of the largest are left out.
constexpr double node_depth = 39.0;

/// A weak tilt is raised to a large power: keep the digits of the logarithm itself, not of 1 plus it. The nodes of a
/// weak tilt cover the untilted law too.
double weak_log_moment(const TiltedKey& key, double theta) {
    double excess = 0.0;
    double mass = 0.0;
    for (std::size_t i = 0; i < key.weight.size(); ++i) {
        const double untilted = key.weight[i] * std::exp(-theta * key.offset[i]);
        mass += untilted;
        excess += untilted * std::expm1(theta * key.offset[i]);
    }
    return std::log1p(excess / mass);
}

double sech2(double u) {
    const double shrink = std::exp(-2.0 * std::abs(u));
    return 4.0 * shrink / ((1.0 + shrink) * (1.0 + shrink));
}

double log_cosh(double u) {
    return std::abs(u) + std::log1p(std::exp(-2.0 * std::abs(u))) - boost::math::constants::ln_two<double>();
}

/// The largest dt/du among the nodes that matter: the steepest phase of the transform. The mode is at u >= 0, so the
/// steepest place is the lower end of the window, or the origin if the window holds it.
double steepest_slope(double e, double theta, double mode, double sd) {
    const auto depth = [&](double u) {
        return theta * (std::tanh(mode) - std::tanh(u)) - e * (log_cosh(mode) - log_cosh(u));
    };
    double low = mode;
    while (low > 0.0 && depth(low) < node_depth) low -= sd;
    return sech2(std::max(low, 0.0));
}

/// `frequency` is the highest contour frequency in units of 1 / sd of the tilted affinity.
TiltedKey tilt_key(double d, double log_norm, double theta, double gap_per_key, double frequency) {
    const double e = d - 1.0;
    const double root = std::sqrt(e * e + 4.0 * theta * theta);
    const double tanh_mode = 2.0 * theta / (e + root);
    const double sech2_mode = 2.0 * e / (e + root);
    const double mode = std::log1p(tanh_mode) - 0.5 * std::log(sech2_mode);
    const double inverse_sd = std::sqrt(sech2_mode * (2.0 * theta * tanh_mode + e));
    const double steepening = steepest_slope(e, theta, mode, 1.0 / inverse_sd) / sech2_mode;
    // Nodes one step apart must turn by less than a full circle, with room for the band of the weight itself and for
    // the slow (Airy) fall of the transform beyond its steepest phase.
    const double turn = frequency * inverse_sd * steepening;
    const double band = turn + std::max({10.0 * inverse_sd, 28.0 + 5.0 * inverse_sd, 15.0 * std::cbrt(turn)});
    const double step = two_pi<double>() / band;

    TiltedKey key;
    std::vector<double> logs;
    const auto add = [&](double u) {
        key.offset.push_back(gap_per_key - 2.0 / (1.0 + std::exp(2.0 * u)));  // 1 - tanh(u), all digits
        logs.push_back(theta * key.offset.back() - e * log_cosh(u));
    };
    add(mode);
    const double log_top = logs.front();
    for (int k = 1; logs.back() > log_top - node_depth; ++k) add(mode + k * step);
    add(mode - step);
    for (int k = 2; logs.back() > log_top - node_depth; ++k) add(mode - k * step);

    double total = 0.0;
    for (const double log_weight : logs) {
        key.weight.push_back(std::exp(log_weight - log_top));
        total += key.weight.back();
    }
    key.log_moment =
        theta < 0.5 * std::sqrt(d) ? weak_log_moment(key, theta) : log_top + std::log(step * total) - log_norm;
    double mean = 0.0;
    double square = 0.0;
    for (std::size_t i = 0; i < logs.size(); ++i) {
        key.weight[i] /= total;
        mean += key.weight[i] * key.offset[i];
        square += key.weight[i] * key.offset[i] * key.offset[i];
    }
    key.variance = square - mean * mean;  // the mean is small: the line passes near the saddlepoint
    return key;
}

/// log(1 + z), z small or not.
std::complex<double> complex_log1p(std::complex<double> z) {
    constexpr double small = 0.25;
    if (std::norm(z) > small) return std::log(1.0 + z);
    const double a = z.real();
    const double b = z.imag();
    return {0.5 * std::log1p(2.0 * a + a * a + b * b), std::atan2(b, 1.0 + a)};
}

/// E[exp(i w_k (t - x/R))] - 1 for w_k = k * step, one k after the other. exp(i k h) - 1 is updated as a number near 0,
/// so that raising the expectation to the R-th power loses nothing.
class CharacteristicWalk {
public:
    CharacteristicWalk(const TiltedKey& key, double step) {
        const std::size_t groups = (key.weight.size() + lanes - 1) / lanes;
        nodes_.resize(groups);
        for (std::size_t i = 0; i < key.weight.size(); ++i) {
            Group& group = nodes_[i / lanes];
            const std::size_t lane = i % lanes;
            const double half_sine = std::sin(0.5 * step * key.offset[i]);
            group.weight[lane] = key.weight[i];
            group.step_re[lane] = -2.0 * half_sine * half_sine;
            group.step_im[lane] = std::sin(step * key.offset[i]);
        }
    }

    std::complex<double> next() {
        Lanes sum_re{};
        Lanes sum_im{};
        for (Group& g : nodes_) {
            for (std::size_t lane = 0; lane < lanes; ++lane) {
                const double re = g.re[lane];
                const double im = g.im[lane];
                g.re[lane] = re + (g.step_re[lane] + (re * g.step_re[lane] - im * g.step_im[lane]));
                g.im[lane] = im + (g.step_im[lane] + (re * g.step_im[lane] + im * g.step_re[lane]));
                sum_re[lane] += g.weight[lane] * g.re[lane];
                sum_im[lane] += g.weight[lane] * g.im[lane];
            }
        }
        return {std::accumulate(sum_re.begin(), sum_re.end(), 0.0), std::accumulate(sum_im.begin(), sum_im.end(), 0.0)};
    }

private:
    /// Independent partial sums, which the compiler turns into vector instructions.
    static constexpr std::size_t lanes = 8;
    using Lanes = std::array<double, lanes>;
    struct Group {
        Lanes weight{}, step_re{}, step_im{}, re{}, im{};
    };
    std::vector<Group> nodes_;
};

}  // namespace

ContourAffinitySum::ContourAffinitySum(std::int64_t head_dim, std::int64_t terms)
    : d_(static_cast<double>(head_dim)),
      terms_(static_cast<double>(terms)),
      smoothness_(smoothness(head_dim, terms)),
      log_norm_(std::log(boost::math::beta(0.5, 0.5 * (d_ - 1.0)))) {}

LogLaw ContourAffinitySum::at_gaps(double lower_gap, double upper_gap) const {
    if (upper_gap <= 0.0) return {log_zero, 0.0, log_zero};
    if (lower_gap <= 0.0) return {0.0, log_zero, log_zero};
    const bool upper_half = upper_gap <= lower_gap;
    const OneSided side = beyond(upper_half ? upper_gap : lower_gap);
    const double other = log_one_minus_exp(side.log_tail);
    return upper_half ? LogLaw{side.log_tail, other, side.log_density} : LogLaw{other, side.log_tail, side.log_density};
}

/// P(T > x) = exp(R log M(theta) - theta x) / pi * int_0^inf Re[(M(theta + i w) / M(theta))^R e^(-i w x) / (theta + i
/// w)] dw, the density without the last denominator. Source: Daniels 1954 and 1987; here integrated, not expanded.
ContourAffinitySum::OneSided ContourAffinitySum::beyond(double gap) const {
    const double gap_per_key = gap / terms_;
    const double rho = 1.0 - gap_per_key;
    const double x = terms_ - gap;
    const double sd = std::sqrt(terms_ / d_);
    // The saddlepoint, to a few percent (Banerjee et al. 2005): the integral is right on any line, this one is fast. It
    // stays off the pole at 0 by one standard deviation.
    const double saddle = rho * (d_ - rho * rho) / (gap_per_key * (2.0 - gap_per_key));
    const double theta = std::max(saddle, 1.0 / sd);

    // |M(theta + iw) / M(theta)|^R is about (1 + w^2 / theta^2)^(-smoothness / 2): it is 1e-16 at this frequency, in
    // units of the reciprocal standard deviation of one tilted affinity.
    const double half_e = 0.5 * (d_ - 1.0);
    const double frequency = std::sqrt(half_e * std::expm1(74.0 / smoothness_));
    const TiltedKey key = tilt_key(d_, log_norm_, theta, gap_per_key, frequency);

    // The sum over w = k h replaces the density by its copies at distance `period`, none of which may reach x.
    const double sum_sd = std::sqrt(terms_ * key.variance);
    const double period = std::min(sum_sd * (11.0 + 40.0 / std::sqrt(smoothness_)), 2.0 * terms_ - gap);
    const double step = two_pi<double>() / period;
    const double highest = frequency / std::sqrt(key.variance);

    constexpr double negligible = 1e-17;
    constexpr int quiet_terms = 4;
    double tail = 0.5 / theta;
    double density = 0.5;
    CharacteristicWalk walk(key, step);
    int quiet = 0;
    for (int k = 1; quiet < quiet_terms && k * step < highest; ++k) {
        const std::complex<double> term = std::exp(terms_ * complex_log1p(walk.next()));
        density += term.real();
        tail += (term / std::complex<double>(theta, k * step)).real();
        quiet = std::abs(term) < negligible ? quiet + 1 : 0;
    }
    const double log_peak = terms_ * key.log_moment;
    tail *= step / pi<double>();
    density *= step / pi<double>();
    // Near the centre the copies of the tail on the left are exp(-theta j period) each, exactly.
    if (x < 4.0 * sd) tail -= std::exp(-log_peak) / std::expm1(theta * period);
    return {std::min(0.0, log_peak + std::log(tail)), log_peak + std::log(density)};
}

}  // namespace mobalab::analysis
