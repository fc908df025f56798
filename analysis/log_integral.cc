#include "analysis/log_integral.h"

#include <algorithm>
#include <boost/math/quadrature/trapezoidal.hpp>
#include <cmath>
#include <optional>
#include <vector>

#include "analysis/log_space.h"

namespace mobalab::analysis {
namespace {

using LogFunction = std::function<double(double)>;

/// exp(-37) = 9e-17: what lies outside the window is below rounding.
constexpr double window_depth = 37.0;
/// The maximum need not be known better than this to find the window.
constexpr double peak_slack = 1.0;
/// Two successive trapezoid sums this close: the error of the second is far smaller (about the square, where they do
/// not agree by chance).
constexpr double step_tolerance = 1e-8;
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

/// Vertex and spread of the parabola through the bracket.
struct Peak {
    double centre;
    double sd;
};

Peak fit_peak(const Bracket& b) {
    const double left = b.peak.x - b.left.x;
    const double right = b.right.x - b.peak.x;
    const double left_slope = (b.peak.value - b.left.value) / left;
    const double right_slope = (b.right.value - b.peak.value) / right;
    const double curvature = 2.0 * (left_slope - right_slope) / (left + right);
    const double widest = left + right;
    if (!(curvature * widest * widest > 1.0)) return {b.peak.x, widest};
    const double slope = (left_slope * right + right_slope * left) / (left + right);
    return {std::clamp(b.peak.x + slope / curvature, b.left.x, b.right.x), 1.0 / std::sqrt(curvature)};
}

/// The stretched coordinate on one side (direction -1 or 1) at which log_f has fallen by window_depth.
double window_end(const LogFunction& stretched, double floor, double direction) {
    constexpr double normal_end = 2.9;  // sinh(2.9)^2 / 2 = 41
    constexpr double step = 0.5;
    double end = normal_end;
    if (stretched(direction * end) < floor - window_depth) {
        while (end > step && stretched(direction * (end - step)) < floor) end -= step;
    } else {
        for (int i = 0; i < max_steps && !(stretched(direction * end) < floor); ++i) end += step;
    }
    return direction * end;
}

/// x = centre + sd sinh(s): exponential tails become double exponential, so that few equal steps cover them.
struct Hill {
    Peak peak;
    double top;   ///< log_f at the place found
    double left;  ///< the window, in s
    double right;

    double x(double s) const { return peak.centre + peak.sd * std::sinh(s); }
    double s(double x) const { return std::asinh((x - peak.centre) / peak.sd); }
};

std::optional<Hill> find_hill(const LogFunction& log_f, double guess, double scale) {
    const Bracket b = narrow(log_f, bracket_maximum(log_f, guess, scale));
    if (b.peak.value == log_zero) return std::nullopt;
    Hill hill{fit_peak(b), b.peak.value, 0.0, 0.0};
    const auto stretched = [&](double s) { return sample(log_f, hill.x(s)).value - hill.top; };
    hill.left = window_end(stretched, -window_depth, -1.0);
    hill.right = window_end(stretched, -window_depth, 1.0);
    return hill;
}

double log_area(const LogFunction& log_f, const Hill& hill) {
    const auto integrand = [&](double s) { return std::exp(sample(log_f, hill.x(s)).value - hill.top) * std::cosh(s); };
    const double area = hill.peak.sd * boost::math::quadrature::trapezoidal(integrand, hill.left, hill.right,
                                                                            step_tolerance, max_refinements);
    return hill.top + std::log(area);
}

/// Cuts off what the other window covers; the rest on the side of the peak.
void leave_out(Hill& hill, const Hill& other) {
    const double from = hill.s(other.x(other.left));
    const double to = hill.s(other.x(other.right));
    if (from >= 0.0) hill.right = std::min(hill.right, from);
    if (to <= 0.0) hill.left = std::max(hill.left, to);
}

bool covers(const Hill& hill, double x) {
    return hill.x(hill.left) <= x && x <= hill.x(hill.right);
}

}  // namespace

double log_integral(const std::function<double(double)>& log_f, double guess, double scale) {
    const std::optional<Hill> hill = find_hill(log_f, guess, scale);
    return hill ? log_area(log_f, *hill) : log_zero;
}

double log_integral(const std::function<double(double)>& log_f, std::span<const Start> starts) {
    std::vector<Hill> found;
    for (const Start& start : starts) {
        if (const std::optional<Hill> hill = find_hill(log_f, start.guess, start.scale)) found.push_back(*hill);
    }
    // A window ends where log_f is window_depth below its own top: what a higher hill's window leaves to a lower one
    // is negligible at the cut.
    std::sort(found.begin(), found.end(), [](const Hill& a, const Hill& b) { return a.top > b.top; });
    std::vector<Hill> used;
    double total = log_zero;
    for (Hill& hill : found) {
        const auto holds_it = [&](const Hill& other) { return covers(other, hill.peak.centre); };
        if (std::any_of(used.begin(), used.end(), holds_it)) continue;
        for (const Hill& other : used) leave_out(hill, other);
        total = log_sum_exp(total, log_area(log_f, hill));
        used.push_back(hill);
    }
    return total;
}

}  // namespace mobalab::analysis
