#include "analysis/agreement.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/math/tools/roots.hpp>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "analysis/binomial_interval.h"
#include "analysis/effective_sample.h"
#include "analysis/hypergeometric.h"
#include "analysis/normal_law.h"

namespace mobalab::analysis {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

bool has_nan(const Counts& c) {
    return std::isnan(c.misses) || std::isnan(c.trials) || std::isnan(c.design_effect) || std::isnan(c.df);
}

void check(const Counts& c) {
    if (!(c.trials >= 0.0) || !(c.misses >= 0.0) || !(c.misses <= c.trials) || std::isinf(c.trials)) {
        throw std::invalid_argument(
            fmt::format("misses = {} of trials = {}: must satisfy 0 <= misses <= trials < inf", c.misses, c.trials));
    }
    if (!(c.design_effect >= 1.0) || std::isinf(c.design_effect)) {
        throw std::invalid_argument(fmt::format(
            "design_effect = {}: must be at least 1 and finite; nearest valid value is 1", c.design_effect));
    }
}

bool has_t_penalty(const Counts& c) {
    return c.df > 0.0 && c.df < c.trials - 1.0;
}

double rate(const Counts& c) {
    return c.misses / c.trials;
}

/// The p-value whose own level it is: the smallest alpha at which a Korn-Graubard interval of that level excludes the
/// hypothesis. The effective sizes depend on alpha only through Student's t; without it there is nothing to solve.
double self_consistent_p(bool depends_on_alpha, const std::function<double(double)>& p_at) {
    constexpr double some_alpha = 0.5;
    if (!depends_on_alpha) return p_at(some_alpha);
    constexpr double log_smallest = -690.0;
    constexpr double log_largest = -1e-9;
    const auto excess = [&](double log_alpha) { return p_at(std::exp(log_alpha)) - std::exp(log_alpha); };
    if (excess(log_largest) >= 0.0) return 1.0;
    if (excess(log_smallest) <= 0.0) return 0.0;
    constexpr int bits = 40;
    std::uintmax_t iterations = 200;
    const auto [low, high] = boost::math::tools::bisect(excess, log_smallest, log_largest,
                                                        boost::math::tools::eps_tolerance<double>(bits), iterations);
    return std::min(1.0, std::exp(0.5 * (low + high)));
}

Agreement signed_agreement(double p_value, double difference) {
    const double z = normal_upper_quantile(std::max(0.5 * p_value, std::numeric_limits<double>::min()));
    return {p_value, difference < 0.0 ? -z : z};
}

/// Whole counts of a clustered side: sizes rounded down, hits rounded towards the other side's rate (never past it when
/// that can be helped), so that rounding makes no disagreement.
struct WholeCounts {
    double hits;
    double size;
};

WholeCounts whole_counts(const Counts& c, double alpha, double other_rate) {
    const double effective = effective_trials(c.trials, c.design_effect, c.df, alpha);
    const double size = std::floor(effective);
    if (effective == c.trials && size == effective && c.misses == std::floor(c.misses)) return {c.misses, c.trials};
    const double hits = rate(c) * size;
    return {std::clamp(rate(c) < other_rate ? std::ceil(hits) : std::floor(hits), 0.0, size), size};
}

}  // namespace

Agreement compare_with_exact(const Counts& counts, double log_miss, double log_hit) {
    if (has_nan(counts) || std::isnan(log_miss) || std::isnan(log_hit)) return {0.0, nan};
    check(counts);
    if (counts.trials == 0.0) return {1.0, 0.0};
    const double p = self_consistent_p(has_t_penalty(counts), [&](double alpha) {
        const double effective = effective_trials(counts.trials, counts.design_effect, counts.df, alpha);
        return binomial_two_sided_p(std::min(effective, rate(counts) * effective), effective, log_miss, log_hit);
    });
    return signed_agreement(p, rate(counts) - std::exp(log_miss));
}

Agreement compare_with_exact(const Counts& counts, std::span<const BernoulliTrials> exact) {
    Counts side = counts;
    side.trials = 0.0;
    double expected = 0.0;
    for (const BernoulliTrials& group : exact) {
        if (std::isnan(group.trials) || std::isnan(group.log_p) || std::isnan(group.log_1mp)) return {0.0, nan};
        side.trials += group.trials;
        expected += group.trials * std::exp(group.log_p);
    }
    if (has_nan(side)) return {0.0, nan};
    check(side);
    if (side.trials == 0.0) return {1.0, 0.0};
    const PoissonBinomialTails tails(exact, side.misses);
    const double p = self_consistent_p(has_t_penalty(side), [&](double alpha) {
        return tails.two_sided(effective_trials(side.trials, side.design_effect, side.df, alpha) / side.trials);
    });
    return signed_agreement(p, side.misses - expected);
}

Agreement compare_counts(const Counts& first, const Counts& second) {
    if (has_nan(first) || has_nan(second)) return {0.0, nan};
    check(first);
    check(second);
    if (first.trials == 0.0 || second.trials == 0.0) return {1.0, 0.0};
    const double difference = rate(first) - rate(second);
    const double p = self_consistent_p(has_t_penalty(first) || has_t_penalty(second), [&](double alpha) {
        const WholeCounts a = whole_counts(first, alpha, rate(second));
        const WholeCounts b = whole_counts(second, alpha, rate(first));
        const bool crossed = (a.hits * b.size - b.hits * a.size) * difference < 0.0;
        return crossed ? 1.0 : fisher_two_sided_p(a.hits, a.size, b.hits, b.size);
    });
    return signed_agreement(p, difference);
}

std::vector<double> holm_adjust(std::span<const double> p_values) {
    const std::size_t count = p_values.size();
    const auto p_of = [&](std::size_t i) { return std::isnan(p_values[i]) ? 0.0 : p_values[i]; };
    std::vector<std::size_t> order(count);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p_of(a) < p_of(b); });
    std::vector<double> adjusted(count);
    double running = 0.0;
    for (std::size_t rank = 0; rank < count; ++rank) {
        const double scaled = p_of(order[rank]) * static_cast<double>(count - rank);
        running = std::max(running, std::min(1.0, scaled));
        adjusted[order[rank]] = running;
    }
    return adjusted;
}

}  // namespace mobalab::analysis
