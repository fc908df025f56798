#include "analysis/centroid_rounding.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/math/quadrature/gauss.hpp>
#include <boost/random/mersenne_twister.hpp>
#include <boost/random/normal_distribution.hpp>
#include <cmath>
#include <numbers>
#include <vector>

#include "analysis/limits.h"
#include "analysis/normal_law.h"
#include "analysis/routing_point.h"
#include "analysis/top_k_change.h"

namespace mobalab::analysis {
namespace {

constexpr int draws = 512;
constexpr std::uint64_t stream = 20250611;  ///< of the draws: any will do, and it is always the same
constexpr double fine = 40.0;               ///< exp(-fine) of a lattice's effect on moments is nothing

struct Layout {
    int bits;      ///< of the significand, the hidden one included
    int smallest;  ///< log2 of the smallest positive number
};

Layout layout_of(CentroidFormat format) {
    return format == CentroidFormat::bf16 ? Layout{8, -133} : Layout{11, -24};
}

/// Distance of neighbouring numbers in the binade [2^exponent, 2^(exponent + 1)).
double step_of(int exponent, const Layout& layout) {
    return std::ldexp(1.0, std::max(exponent + 1 - layout.bits, layout.smallest));
}

/// Moments of one channel of a centroid x and of its rounding error e.
struct ChannelMoments {
    double error_variance;
    double covariance;  ///< of x and e
};

double probability_between(double low, double high, double mean, double sd) {
    const double a = (low - mean) / sd;
    const double b = (high - mean) / sd;
    // In the tail that loses nothing.
    return a > 0 ? std::exp(log_normal_upper(a)) - std::exp(log_normal_upper(b))
                 : std::exp(log_normal_upper(-b)) - std::exp(log_normal_upper(-a));
}

/// u^2 / 12 averaged over the binades that x reaches.
double fine_variance(double mean, double sd, const Layout& layout) {
    const double reach = std::abs(mean) + 9 * sd;
    double variance = 0.0;
    double left = 1.0;
    for (int exponent = std::ilogb(reach); left > 1e-9 && exponent >= -60; --exponent) {
        const double low = std::ldexp(1.0, exponent);
        const double share =
            probability_between(low, 2 * low, mean, sd) + probability_between(-2 * low, -low, mean, sd);
        const double step = step_of(exponent, layout);
        variance += share * step * step / 12;
        left -= share;
    }
    return variance;
}

ChannelMoments channel_moments(double mean, double sd, const Layout& layout) {
    const double step = mean == 0.0 ? 0.0 : step_of(std::ilogb(mean), layout);
    const double decay = step == 0.0 ? fine : 2 * std::pow(std::numbers::pi * sd / step, 2);
    if (decay >= fine) {
        return {fine_variance(mean, sd, layout), 0.0};
    }
    double square = step * step / 12;
    double first = 0.0;
    double slope = 0.0;
    const double turn = 2 * std::numbers::pi * std::remainder(mean / step, 1.0);
    for (int k = 1; k * k * decay < fine; ++k) {
        const double weight = (k % 2 == 0 ? 1.0 : -1.0) * std::exp(-k * k * decay);
        square += weight * std::pow(step / (std::numbers::pi * k), 2) * std::cos(k * turn);
        first += weight * step / (std::numbers::pi * k) * std::sin(k * turn);
        slope += weight * 2 * std::cos(k * turn);
    }
    return {std::max(square - first * first, 0.0), sd * sd * slope};
}

/// Angle between the scores before and after rounding, of one query and one mean.
double drawn_angle(const RoundingQuestion& question, boost::random::mt19937_64& engine) {
    boost::random::normal_distribution<> normal;
    const Layout layout = layout_of(question.format);
    const double sd = 1.0 / std::sqrt(static_cast<double>(question.block_size));
    double score = 0.0;
    double error = 0.0;
    double shared = 0.0;
    for (std::int64_t channel = 0; channel < question.head_dim; ++channel) {
        const double weight = std::pow(normal(engine), 2);
        const ChannelMoments moments = channel_moments(question.shared_mean * normal(engine), sd, layout);
        score += weight * sd * sd;
        error += weight * moments.error_variance;
        shared += weight * moments.covariance;
    }
    // Var(s) Var(s + e) - Cov(s, s + e)^2, without its cancellation.
    const double determinant = std::max(score * error - shared * shared, 0.0);
    return std::min(std::atan2(std::sqrt(determinant), score + shared), std::numbers::pi / 2);
}

/// Share of rows with this angle that change: of rows with c candidates, or of all rows of a sequence.
double changed_at(const RoundingQuestion& question, double angle) {
    const int slots = static_cast<int>(question.topk - 1);
    const auto at = [&](double candidates) { return top_k_change_probability(candidates, slots, angle); };
    if (question.seq_len == 0) {
        return at(static_cast<double>(question.candidates));
    }
    // Rows of block b have b candidates; the last block may have fewer rows.
    const std::int64_t blocks = num_blocks(question.seq_len, question.block_size);
    const std::int64_t whole = question.seq_len / question.block_size;
    const std::int64_t exact = std::min<std::int64_t>(whole, slots + 7);
    double sum = 0.0;
    for (std::int64_t b = slots + 1; b < exact; ++b) {
        sum += at(static_cast<double>(b));
    }
    if (exact < whole) {  // a sum over many is the integral between the halves, over log c
        const double low = std::log(static_cast<double>(exact) - 0.5);
        const double high = std::log(static_cast<double>(whole) - 0.5);
        sum += boost::math::quadrature::gauss<double, 10>::integrate(
            [&](double log_c) { return std::exp(log_c) * at(std::exp(log_c)); }, low, high);
    }
    double rows = sum * static_cast<double>(question.block_size);
    if (blocks > whole) {
        const std::int64_t rest = question.seq_len - whole * question.block_size;
        rows += static_cast<double>(rest) * at(static_cast<double>(whole));
    }
    return rows / static_cast<double>(question.seq_len);
}

/// changed_at() between the smallest and largest angle, as a polynomial in the angle's logarithm through its values at
/// Chebyshev nodes: it is smooth there, and the draws are many.
class ChangedCurve {
public:
    ChangedCurve(const RoundingQuestion& question, double smallest, double largest)
        : middle_((std::log(smallest) + std::log(largest)) / 2),
          half_(std::max((std::log(largest) - std::log(smallest)) / 2, 1e-9)) {
        for (int i = 0; i < count; ++i) {
            const double angle = (2 * i + 1) * std::numbers::pi / (2 * count);
            places_[i] = std::cos(angle);
            weights_[i] = (i % 2 == 0 ? 1.0 : -1.0) * std::sin(angle);
            values_[i] = changed_at(question, std::exp(middle_ + half_ * places_[i]));
        }
    }

    double operator()(double angle) const {
        const double at = (std::log(angle) - middle_) / half_;
        double top = 0.0;
        double bottom = 0.0;
        for (int i = 0; i < count; ++i) {
            if (at == places_[i]) {
                return values_[i];
            }
            const double weight = weights_[i] / (at - places_[i]);
            top += weight * values_[i];
            bottom += weight;
        }
        return top / bottom;
    }

private:
    static constexpr int count = 5;
    double middle_;
    double half_;
    std::array<double, count> places_{};
    std::array<double, count> weights_{};
    std::array<double, count> values_{};
};

void check(const char* name, double value, double least, double most) {
    if (!(value >= least && value <= most)) {
        throw InputError(fmt::format("{} = {}: must be from {} to {}; nearest valid choice: {}", name, value, least,
                                     most, value > most ? most : least));
    }
}

void check(const RoundingQuestion& question) {
    check("head_dim", static_cast<double>(question.head_dim), 1, static_cast<double>(most_rounded_head_dim));
    check("block_size", static_cast<double>(question.block_size), 1, 1e9);
    check("seq_len", static_cast<double>(question.seq_len), 0, 1e12);
    const std::int64_t blocks = question.seq_len / question.block_size;
    check("candidates", static_cast<double>(question.seq_len > 0 ? blocks : question.candidates),
          question.seq_len > 0 ? 0 : 1, most_candidates);
    check("topk", static_cast<double>(question.topk), 1, 512);
    check("shared_mean", question.shared_mean, 0, most_shared_mean);
}

}  // namespace

std::string_view to_string(CentroidFormat format) {
    return format == CentroidFormat::bf16 ? "bf16" : "fp16";
}

double changed_rows(const RoundingQuestion& question) {
    check(question);
    const std::int64_t most =
        question.seq_len > 0 ? num_blocks(question.seq_len, question.block_size) - 1 : question.candidates;
    if (question.topk == 1 || most < question.topk) {
        return 0.0;  // nothing to choose
    }
    boost::random::mt19937_64 engine(stream);
    std::vector<double> angles(draws);
    std::generate(angles.begin(), angles.end(), [&] { return drawn_angle(question, engine); });
    std::erase(angles, 0.0);  // rounding that moved nothing
    if (angles.empty()) {
        return 0.0;
    }
    const auto [smallest, largest] = std::minmax_element(angles.begin(), angles.end());
    const ChangedCurve curve(question, *smallest, *largest);
    double sum = 0.0;
    for (const double angle : angles) {
        sum += curve(angle);
    }
    return std::clamp(sum / draws, 0.0, 1.0);
}

}  // namespace mobalab::analysis
