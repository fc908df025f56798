#pragma once

#include <algorithm>
#include <cmath>
#include <utility>

#include "analysis/score_law.h"

namespace mobalab::analysis {

/// One interval of scores mapped onto the real line: the identity when it is unbounded, else a logistic map, under
/// which an algebraic end of a density becomes an exponential tail.
class Piece {
public:
    Piece(double low, double high) : low_(low), high_(high), bounded_(std::isfinite(low)) {}

    Score score(double v) const {
        if (!bounded_) return {.value = v};
        const double width = high_ - low_;
        const double above = width / (1.0 + std::exp(-v));
        const double below = width / (1.0 + std::exp(v));
        return {above < below ? low_ + above : high_ - below, low_, above, high_, below};
    }

    double log_jacobian(double v) const {
        if (!bounded_) return 0.0;
        return std::log(high_ - low_) - std::abs(v) - 2.0 * std::log1p(std::exp(-std::abs(v)));
    }

    /// The coordinate and its spread that belong to a score and its spread.
    std::pair<double, double> locate(double value, double spread) const {
        if (!bounded_) return {value, spread};
        const double width = high_ - low_;
        const double fraction = std::clamp((value - low_) / width, 1e-6, 1.0 - 1e-6);
        const double slope = fraction * (1.0 - fraction) * width;
        return {std::log(fraction / (1.0 - fraction)), std::min(spread / slope, 1.0)};
    }

private:
    double low_;
    double high_;
    bool bounded_;
};

}  // namespace mobalab::analysis
