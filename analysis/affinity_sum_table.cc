#include "analysis/affinity_sum_table.h"

#include <algorithm>
#include <boost/math/constants/constants.hpp>
#include <boost/math/special_functions/beta.hpp>
#include <cmath>
#include <cstddef>

#include "analysis/log_space.h"

namespace mobalab::analysis {
namespace {

using boost::math::constants::pi;

/// A place in (0, 1) by its distances from both ends, each with all its digits.
struct Share {
    double low;
    double high;
};

Share share_at_log_odds(double v) {
    return {1.0 / (1.0 + std::exp(-v)), 1.0 / (1.0 + std::exp(v))};
}

/// Tables are Chebyshev series in the double exponential coordinate s, log odds = pi sinh s: algebraic and logarithmic
/// singularities at both ends become analytic in s. Source: Takahasi and Mori 1974. They reach to a share of 1e-15;
/// beyond, the tabulated functions are constant.
constexpr double table_end = 3.1;
constexpr int table_size = 96;

Share share_at_table_node(double s) {
    return share_at_log_odds(pi<double>() * std::sinh(s));
}

double table_coordinate(double low, double high) {
    return std::asinh(std::log(low / high) / pi<double>());
}

double table_node(int k) {
    return std::cos(pi<double>() * (k + 0.5) / table_size);
}

/// Coefficients of the Chebyshev series through values at the nodes; the first is halved.
std::vector<TablePair> chebyshev_coefficients(const std::vector<TablePair>& values) {
    std::vector<TablePair> coefficients(table_size);
    for (int j = 0; j < table_size; ++j) {
        TablePair sum{0.0, 0.0};
        for (int k = 0; k < table_size; ++k) {
            const double cosine = std::cos(pi<double>() * j * (k + 0.5) / table_size);
            sum[0] += values[static_cast<std::size_t>(k)][0] * cosine;
            sum[1] += values[static_cast<std::size_t>(k)][1] * cosine;
        }
        const double scale = (j == 0 ? 1.0 : 2.0) / table_size;
        coefficients[static_cast<std::size_t>(j)] = {scale * sum[0], scale * sum[1]};
    }
    return coefficients;
}

/// Clenshaw's recurrence for both series at once: Boost's takes one, and this is the inner loop of the convolution.
TablePair evaluate(const std::vector<TablePair>& coefficients, double s) {
    const double x = std::clamp(s / table_end, -1.0, 1.0);
    TablePair b1{0.0, 0.0};
    TablePair b2{0.0, 0.0};
    for (std::size_t j = coefficients.size() - 1; j > 0; --j) {
        for (std::size_t lane = 0; lane < 2; ++lane) {
            const double b = 2.0 * x * b1[lane] - b2[lane] + coefficients[j][lane];
            b2[lane] = b1[lane];
            b1[lane] = b;
        }
    }
    return {x * b1[0] - b2[0] + coefficients[0][0], x * b1[1] - b2[1] + coefficients[0][1]};
}

/// How far into the log odds the integrand must be followed at an end where it falls like share^power, but only like
/// share^slow until the share is as small as the distance (never below exp(-35)) of a singular point outside the
/// interval.
double depth_needed(double slow, double power) {
    constexpr double depth = 37.0;  // exp(-37) = 9e-17
    constexpr double nearest = 35.0;
    return slow * nearest >= depth ? depth / slow : nearest + (depth - slow * nearest) / power;
}

/// Trapezoidal rule in the log odds. Not the double exponential rule: a second singular point may lie just outside the
/// interval at any distance, and only in the log odds is the integrand equally smooth at all scales. The densities of
/// key and rest behave like share^(power - 1) at their ends.
std::vector<ConvolutionNode> convolution_nodes(double key_power, double rest_power) {
    // The same band as for the tilted key of the contour integral (tanh is a change of scale by 2).
    const double step = 4.0 * pi<double>() / (28.0 + 5.0 * std::sqrt(key_power + rest_power));
    const double key = std::min(1.0, key_power);
    const double rest = std::min(1.0, rest_power);
    const double slow = std::max(0.0, key + rest - 1.0);
    const double first = -depth_needed(slow, key);
    const double last = depth_needed(slow, rest);
    std::vector<ConvolutionNode> nodes;
    for (int i = 0; first + step * i <= last; ++i) {
        const Share share = share_at_log_odds(first + step * i);
        nodes.push_back({share.low, share.high, step * share.low * share.high});
    }
    return nodes;
}

}  // namespace

SingleAffinity::SingleAffinity(std::int64_t head_dim)
    : half_(0.5 * static_cast<double>(head_dim - 1)), log_beta_(std::log(boost::math::beta(half_, half_))) {}

LogLaw SingleAffinity::at_gaps(double lower_gap, double upper_gap) const {
    if (upper_gap <= 0.0) return {log_zero, 0.0, log_zero};
    if (lower_gap <= 0.0) return {0.0, log_zero, log_zero};
    const double log_density = (half_ - 1.0) * (std::log(0.5 * upper_gap) + std::log(0.5 * lower_gap)) - log_beta_ -
                               boost::math::constants::ln_two<double>();
    const double tail = log_tail(std::min(lower_gap, upper_gap));
    const double other = log_one_minus_exp(tail);
    return upper_gap <= lower_gap ? LogLaw{tail, other, log_density} : LogLaw{other, tail, log_density};
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
      log_key_norm_(std::log(boost::math::beta(0.5, 0.5 * static_cast<double>(head_dim - 1)))),
      nodes_(convolution_nodes(0.5 * static_cast<double>(head_dim - 1), smoothness(head_dim, terms - 1))) {
    // The law is symmetric: pieces from the upper end to the centre.
    const std::int64_t count = (terms + 1) / 2;
    for (std::int64_t j = 0; j < count; ++j) pieces_.push_back(tabulate(j, fewer));
}

TabulatedAffinitySum::Piece TabulatedAffinitySum::tabulate(std::int64_t index, const AffinitySum& fewer) const {
    std::vector<TablePair> logs;
    for (int k = 0; k < table_size; ++k) {
        const Share share = share_at_table_node(table_end * table_node(k));
        TablePair pair = convolve(2.0 * static_cast<double>(index), 2.0 * share.low, 2.0 * share.high, fewer);
        if (index == 0) {
            const double log_gap = std::log(2.0 * share.low);
            pair[0] -= smoothness_ * log_gap;
            pair[1] -= (smoothness_ - 1.0) * log_gap;
        }
        logs.push_back(pair);
    }
    return chebyshev_coefficients(logs);
}

/// At the upper gap below_piece + low_part (low_part + high_part = 2): integrates over the gap 1 - t of the last key,
/// cut where the remaining sum passes its singular point.
TablePair TabulatedAffinitySum::convolve(double below_piece, double low_part, double high_part,
                                         const AffinitySum& fewer) const {
    double peak = log_zero;
    struct Term {
        double weight, tail, density;
    };
    std::vector<Term> terms;
    const auto add = [&](double weight, double key_gap, double key_other_gap, double rest_gap, double rest_other_gap) {
        const LogLaw rest = fewer.at_gaps(rest_other_gap, rest_gap);
        const double log_key = key_power_ * (std::log(key_gap) + std::log(key_other_gap)) - log_key_norm_;
        terms.push_back({weight, log_key + rest.upper, log_key + rest.density});
        peak = std::max({peak, terms.back().tail, terms.back().density});
    };
    // Every gap is a sum of positive parts: none loses its digits where it is small.
    const double above_piece = 2.0 * (terms_ - 2.0) - below_piece;
    for (const ConvolutionNode& node : nodes_) {
        const double from_key_end = low_part * node.key_share;
        const double from_rest_end = low_part * node.rest_share;
        add(node.weight * low_part, from_key_end, high_part + from_rest_end, below_piece + from_rest_end,
            above_piece + high_part + from_key_end);
        if (below_piece > 0.0) {
            const double past_rest_end = high_part * node.rest_share;
            add(node.weight * high_part, low_part + past_rest_end, high_part * node.key_share,
                below_piece - past_rest_end, above_piece + 2.0 + past_rest_end);
        }
    }
    double tail = 0.0;
    double density = 0.0;
    for (const Term& term : terms) {
        tail += term.weight * std::exp(term.tail - peak);
        density += term.weight * std::exp(term.density - peak);
    }
    return {peak + std::log(tail), peak + std::log(density)};
}

TablePair TabulatedAffinitySum::beyond(double gap) const {
    const double piece_number = std::min(std::floor(0.5 * gap), static_cast<double>(pieces_.size()) - 1.0);
    const double low = 0.5 * gap - piece_number;
    const double s = low > 0.0 ? table_coordinate(low, 1.0 - low) : -table_end;
    const Piece& piece = pieces_[static_cast<std::size_t>(piece_number)];
    TablePair logs = evaluate(piece, s);
    if (piece_number == 0.0) {
        const double log_gap = std::log(gap);
        logs[0] += smoothness_ * log_gap;
        logs[1] += (smoothness_ - 1.0) * log_gap;
    }
    return logs;
}

LogLaw TabulatedAffinitySum::at_gaps(double lower_gap, double upper_gap) const {
    if (upper_gap <= 0.0) return {log_zero, 0.0, log_zero};
    if (lower_gap <= 0.0) return {0.0, log_zero, log_zero};
    const bool upper_half = upper_gap <= lower_gap;
    const TablePair side = beyond(upper_half ? upper_gap : lower_gap);
    const double tail = std::min(0.0, side[0]);
    const double other = log_one_minus_exp(tail);
    return upper_half ? LogLaw{tail, other, side[1]} : LogLaw{other, tail, side[1]};
}

std::vector<double> TabulatedAffinitySum::knots() const {
    std::vector<double> result;
    for (double x = -terms_; x <= terms_; x += 2.0) result.push_back(x);
    return result;
}

}  // namespace mobalab::analysis
