#include "analysis/affinity_sum_table.h"

#include <algorithm>
#include <boost/math/constants/constants.hpp>
#include <boost/math/special_functions/beta.hpp>
#include <boost/math/special_functions/chebyshev.hpp>
#include <cmath>

#include "analysis/log_space.h"

namespace mobalab::analysis {
namespace {

using boost::math::constants::pi;

/// Double exponential coordinate on (0, 1): share = 1 / (1 + exp(-pi sinh s)). Algebraic and logarithmic singularities
/// at both ends become analytic in s. Source: Takahasi and Mori 1974.
struct Share {
    double low;   ///< share
    double high;  ///< 1 - share, all digits
};

Share share_at(double s) {
    const double e = pi<double>() * std::sinh(s);
    return {1.0 / (1.0 + std::exp(-e)), 1.0 / (1.0 + std::exp(e))};
}

double coordinate_of(double low, double high) {
    return std::asinh(std::log(low / high) / pi<double>());
}

/// Tables reach to a share of 1e-15; beyond, the tabulated functions are constant.
constexpr double table_end = 3.1;
constexpr int table_size = 96;

/// Quadrature nodes reach to a share of 1e-30: an inverse root at the end then loses 1e-15.
struct QuadratureNode {
    Share share;
    double weight;
};

const std::vector<QuadratureNode>& quadrature() {
    static const std::vector<QuadratureNode> nodes = [] {
        constexpr double step = 0.1;
        constexpr int half_count = 38;
        std::vector<QuadratureNode> result;
        for (int i = -half_count; i <= half_count; ++i) {
            const double s = step * i;
            const Share share = share_at(s);
            result.push_back({share, step * pi<double>() * std::cosh(s) * share.low * share.high});
        }
        return result;
    }();
    return nodes;
}

double table_node(int k) {
    return std::cos(pi<double>() * (k + 0.5) / table_size);
}

/// Coefficients of the Chebyshev series through values at the nodes, the first one doubled (Boost's convention).
std::vector<double> chebyshev_coefficients(const std::vector<double>& values) {
    std::vector<double> coefficients(table_size);
    for (int j = 0; j < table_size; ++j) {
        double sum = 0.0;
        for (int k = 0; k < table_size; ++k) {
            sum += values[static_cast<std::size_t>(k)] * std::cos(pi<double>() * j * (k + 0.5) / table_size);
        }
        coefficients[static_cast<std::size_t>(j)] = 2.0 / table_size * sum;
    }
    return coefficients;
}

double evaluate(const std::vector<double>& coefficients, double s) {
    return boost::math::chebyshev_clenshaw_recurrence(coefficients.data(), coefficients.size(),
                                                      std::clamp(s / table_end, -1.0, 1.0));
}

}  // namespace

SingleAffinity::SingleAffinity(std::int64_t head_dim)
    : half_(0.5 * static_cast<double>(head_dim - 1)), log_beta_(std::log(boost::math::beta(half_, half_))) {}

LogLaw SingleAffinity::at_gaps(double lower_gap, double upper_gap) const {
    if (upper_gap <= 0.0) return {log_zero, 0.0, log_zero};
    if (lower_gap <= 0.0) return {0.0, log_zero, log_zero};
    const double log_density = (half_ - 1.0) * (std::log(0.5 * upper_gap) + std::log(0.5 * lower_gap)) - log_beta_ -
                               boost::math::constants::ln_two<double>();
    return {log_tail(upper_gap), log_tail(lower_gap), log_density};
}

std::vector<double> SingleAffinity::knots() const {
    return {-1.0, 1.0};
}

double SingleAffinity::log_tail(double gap) const {
    constexpr double leading_term_only = 1e-17;
    if (gap < leading_term_only) return half_ * std::log(0.5 * gap) - std::log(half_) - log_beta_;
    return std::log(boost::math::ibeta(half_, half_, std::min(1.0, 0.5 * gap)));
}

TabulatedAffinitySum::TabulatedAffinitySum(std::int64_t head_dim, std::int64_t terms, const AffinitySum& fewer)
    : terms_(static_cast<double>(terms)),
      smoothness_(smoothness(head_dim, terms)),
      key_power_(0.5 * static_cast<double>(head_dim - 3)),
      log_key_norm_(std::log(boost::math::beta(0.5, 0.5 * static_cast<double>(head_dim - 1)))) {
    // The law is symmetric: pieces from the upper end to the centre.
    const std::int64_t count = (terms + 1) / 2;
    for (std::int64_t j = 0; j < count; ++j) pieces_.push_back(tabulate(j, fewer));
}

TabulatedAffinitySum::Piece TabulatedAffinitySum::tabulate(std::int64_t index, const AffinitySum& fewer) const {
    std::vector<double> tails(table_size);
    std::vector<double> densities(table_size);
    for (int k = 0; k < table_size; ++k) {
        const Share share = share_at(table_end * table_node(k));
        Logs logs = convolve(2.0 * static_cast<double>(index), 2.0 * share.low, 2.0 * share.high, fewer);
        if (index == 0) {
            const double log_gap = std::log(2.0 * share.low);
            logs.tail -= smoothness_ * log_gap;
            logs.density -= (smoothness_ - 1.0) * log_gap;
        }
        tails[static_cast<std::size_t>(k)] = logs.tail;
        densities[static_cast<std::size_t>(k)] = logs.density;
    }
    return {chebyshev_coefficients(tails), chebyshev_coefficients(densities)};
}

/// At the upper gap below_piece + low_part (low_part + high_part = 2): integrates over the gap 1 - t of the last key,
/// cut where the remaining sum passes its singular point.
TabulatedAffinitySum::Logs TabulatedAffinitySum::convolve(double below_piece, double low_part, double high_part,
                                                          const AffinitySum& fewer) const {
    const double fewer_width = 2.0 * (terms_ - 1.0);
    double tail_peak = log_zero;
    struct Term {
        double weight, tail, density;
    };
    std::vector<Term> terms;
    const auto add = [&](double weight, double key_gap, double key_other_gap, double gap) {
        const LogLaw rest = fewer.at_gaps(fewer_width - gap, gap);
        const double log_key = key_power_ * (std::log(key_gap) + std::log(key_other_gap)) - log_key_norm_;
        terms.push_back({weight, log_key + rest.upper, log_key + rest.density});
        tail_peak = std::max({tail_peak, terms.back().tail, terms.back().density});
    };
    for (const QuadratureNode& node : quadrature()) {
        add(node.weight * low_part, low_part * node.share.low, high_part + low_part * node.share.high,
            below_piece + low_part * node.share.high);
        if (below_piece > 0.0) {
            add(node.weight * high_part, low_part + high_part * node.share.low, high_part * node.share.high,
                below_piece - high_part * node.share.low);
        }
    }
    double tail = 0.0;
    double density = 0.0;
    for (const Term& term : terms) {
        tail += term.weight * std::exp(term.tail - tail_peak);
        density += term.weight * std::exp(term.density - tail_peak);
    }
    return {tail_peak + std::log(tail), tail_peak + std::log(density)};
}

TabulatedAffinitySum::Logs TabulatedAffinitySum::beyond(double gap) const {
    const double piece_number = std::min(std::floor(0.5 * gap), static_cast<double>(pieces_.size()) - 1.0);
    const double low = 0.5 * gap - piece_number;
    const double s = low > 0.0 ? coordinate_of(low, 1.0 - low) : -table_end;
    const Piece& piece = pieces_[static_cast<std::size_t>(piece_number)];
    Logs logs{evaluate(piece.log_tail, s), evaluate(piece.log_density, s)};
    if (piece_number == 0.0) {
        logs.tail += smoothness_ * std::log(gap);
        logs.density += (smoothness_ - 1.0) * std::log(gap);
    }
    return logs;
}

LogLaw TabulatedAffinitySum::at_gaps(double lower_gap, double upper_gap) const {
    if (upper_gap <= 0.0) return {log_zero, 0.0, log_zero};
    if (lower_gap <= 0.0) return {0.0, log_zero, log_zero};
    const bool upper_half = upper_gap <= lower_gap;
    const Logs side = beyond(upper_half ? upper_gap : lower_gap);
    const double tail = std::min(0.0, side.tail);
    const double other = log_one_minus_exp(tail);
    return upper_half ? LogLaw{tail, other, side.density} : LogLaw{other, tail, side.density};
}

std::vector<double> TabulatedAffinitySum::knots() const {
    std::vector<double> result;
    for (double x = -terms_; x <= terms_; x += 2.0) result.push_back(x);
    return result;
}

}  // namespace mobalab::analysis
