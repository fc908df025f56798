#include "analysis/log_integral.h"

#include <boost/math/quadrature/trapezoidal.hpp>
#include <cmath>

#include "analysis/log_space.h"

namespace mobalab::analysis {
namespace {

using LogFunction = std::function<double(double)>;

/// exp(-37) = 9e-17: what lies outside the window is below rounding.
constexpr double window_depth = 37.0;
/// The maximum need not be known better than this to find the window.
constexpr double peak_slack = 1.0;
/// Two successive trapezoid sums this close: the error of the second is about the square.
constexpr double step_tolerance = 1e-7;
constexpr std::size_t max_refinements = 16;
constexpr int max_steps = 400;

struct Sample {
    double x;
    double value;
};

struct Bracket {
    Sample left;
    Sample peak;
    Sample right;
};

Sample sample(const LogFunction& log_f, double x) {
    const double value = log_f(x);
    return {x, std::isnan(value) ? log_zero : value};
}

/// Climbs with doubling steps until the value falls on both sides.
Bracket bracket_maximum(const LogFunction& log_f, double guess, double scale) {
    Bracket b{sample(log_f, guess - scale), sample(log_f, guess), sample(log_f, guess + scale)};
    double step = scale;
    for (int i = 0; i < max_steps && b.right.value > b.peak.value; ++i) {
        step *= 2.0;
        b = {b.peak, b.right, sample(log_f, b.right.x + step)};
    }
    for (int i = 0; i < max_steps && b.left.value > b.peak.value; ++i) {
        step *= 2.0;
        b = {sample(log_f, b.left.x - step), b.left, b.peak};
    }
    return b;
}

/// Halves the wider side until the shoulders are within peak_slack of the peak (a concave function then exceeds the
/// peak sample by little more than that).
Bracket narrow(const LogFunction& log_f, Bracket b) {
    for (int i = 0; i < max_steps; ++i) {
        const double left_drop = b.peak.value - b.left.value;
        const double right_drop = b.peak.value - b.right.value;
        if (left_drop <= peak_slack && right_drop <= peak_slack) break;
        const bool halve_left = left_drop > right_drop;
        const Sample middle = sample(log_f, 0.5 * (b.peak.x + (halve_left ? b.left.x : b.right.x)));
        if (middle.x == b.peak.x || middle.x == b.left.x || middle.x == b.right.x) break;
        if (middle.value > b.peak.value) {
            b = halve_left ? Bracket{b.left, middle, b.peak} : Bracket{b.peak, middle, b.right};
        } else {
            (halve_left ? b.left : b.right) = middle;
        }
    }
    return b;
}

/// The place on one side where log_f has fallen by window_depth, at most a quarter too far out.
double window_end(const LogFunction& log_f, double peak, double floor, double first_step) {
    double inside = peak;
    double outside = peak + first_step;
    for (int i = 0; i < max_steps; ++i) {
        const double value = sample(log_f, outside).value;
        if (value < floor) break;
        inside = outside;
        // On a parabola the drop grows with the square of the distance.
        outside = peak + 2.0 * (outside - peak);
    }
    while (std::abs(outside - inside) > 0.25 * std::abs(outside - peak)) {
        const double middle = 0.5 * (inside + outside);
        (sample(log_f, middle).value < floor ? outside : inside) = middle;
    }
    return outside;
}

}  // namespace

double log_integral(const std::function<double(double)>& log_f, double guess, double scale) {
    const Bracket b = narrow(log_f, bracket_maximum(log_f, guess, scale));
    if (b.peak.value == log_zero) return log_zero;
    const double floor = b.peak.value - window_depth;
    const double left = window_end(log_f, b.peak.x, floor, 6.0 * (b.left.x - b.peak.x));
    const double right = window_end(log_f, b.peak.x, floor, 6.0 * (b.right.x - b.peak.x));
    const auto integrand = [&](double x) { return std::exp(sample(log_f, x).value - b.peak.value); };
    const double area = boost::math::quadrature::trapezoidal(integrand, left, right, step_tolerance, max_refinements);
    return b.peak.value + std::log(area);
}

}  // namespace mobalab::analysis
