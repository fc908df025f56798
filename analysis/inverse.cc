#include "analysis/inverse.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <concepts>

#include "analysis/hit_probability.h"
#include "analysis/limits.h"

namespace mobalab::analysis {
namespace {

constexpr std::int64_t max_head_dim = 65536;
constexpr std::int64_t max_block_size = 65536;
/// Values looked at one by one before the pieces of ReachSearch begin.
constexpr std::int64_t single_values = 16;

/// How far a point is above the wanted hit probability, judged on the side where that has all its digits: the excess of
/// log P(hit), or what log P(miss) falls short of.
class Target {
public:
    explicit Target(double wanted_hit) : wanted_(wanted_hit) {
        if (!(wanted_hit > 0.0 && wanted_hit < 1.0)) {
            throw InputError(
                fmt::format("wanted_hit = {}: must be between 0 and 1, both excluded; for example 0.9", wanted_hit));
        }
    }

    double excess(const RoutingPoint& point) const {
        const HitProbability p = exact_hit_probability(point);
        return wanted_ < 0.5 ? p.log_hit - std::log(wanted_) : std::log1p(-wanted_) - p.log_miss;
    }
    bool reached(const RoutingPoint& point) const { return excess(point) >= 0.0; }

private:
    double wanted_;
};

/// The intervals of a field whose hit probability never falls over [low, high].
template <std::predicate<std::int64_t> Reached>
Reaching<std::int64_t> rising(std::int64_t low, std::int64_t high, const Reached& reached) {
    Reaching<std::int64_t> answer{.intervals = {}, .searched = {low, high}, .nearest = high};
    if (!reached(high)) return answer;
    // From above, by halves: the few smallest dimensions are the slow ones to evaluate.
    std::int64_t reaches = high;
    while (reaches > low && reached(std::max(low, reaches / 2))) reaches = std::max(low, reaches / 2);
    std::int64_t fails = reaches == low ? low - 1 : std::max(low, reaches / 2);
    while (reaches - fails > 1) {
        const std::int64_t middle = fails + (reaches - fails) / 2;
        (reached(middle) ? reaches : fails) = middle;
    }
    answer.intervals.push_back({reaches, high});
    return answer;
}

/// The same where it never rises.
template <std::predicate<std::int64_t> Reached>
Reaching<std::int64_t> falling(std::int64_t low, std::int64_t high, const Reached& reached) {
    Reaching<std::int64_t> answer{.intervals = {}, .searched = {low, high}, .nearest = low};
    if (!reached(low)) return answer;
    std::int64_t reaches = low;
    std::int64_t fails = high + 1;
    while (fails - reaches > 1) {
        const std::int64_t middle = reaches + (fails - reaches) / 2;
        (reached(middle) ? reaches : fails) = middle;
    }
    answer.intervals.push_back({low, reaches});
    return answer;
}

/// ceil(a / b) for positive integers.
std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
    return (a - 1) / b + 1;
}

/// The block sizes that make valid points.
Range<std::int64_t> valid_block_sizes(const RoutingPoint& point) {
    if (point.cluster_size > max_block_size) {
        throw InputError(fmt::format("cluster_size = {}: must be at most {} here; nearest valid value is {}",
                                     point.cluster_size, max_block_size, max_block_size));
    }
    Range<std::int64_t> valid{std::max<std::int64_t>(1, point.cluster_size), max_block_size};
    if (point.seq_len > 0) {
        valid.low = std::max(valid.low, ceil_div(point.seq_len, most_candidates + 1));
        valid.high = std::min(valid.high, (point.seq_len - 1) / std::max<std::int64_t>(1, point.needles));
        if (valid.low > valid.high) {
            throw InputError(fmt::format(
                "seq_len = {} with cluster_size = {} and needles = {}: no block size up to {} holds the cluster and "
                "leaves from {} to {} blocks before the last query's own; nearest valid value is seq_len = {}",
                point.seq_len, point.cluster_size, point.needles, max_block_size, point.needles, most_candidates,
                std::min(point.needles * valid.low + 1, (most_candidates + 1) * max_block_size)));
        }
    }
    return valid;
}

/// Smallest block size at which every candidate is kept.
std::int64_t first_trivial(const RoutingPoint& point, const Range<std::int64_t>& valid) {
    if (point.seq_len > 0) return std::max(valid.low, ceil_div(point.seq_len, point.topk));
    return point.candidates <= point.routed() ? valid.low : valid.high + 1;
}

}  // namespace

Reaching<std::int64_t> head_dims_that_reach(RoutingPoint point, double wanted_hit) {
    const Target target(wanted_hit);
    const auto with = [point](std::int64_t d) {
        RoutingPoint changed = point;
        changed.head_dim = d;
        return changed;
    };
    const auto reached = [&](std::int64_t d) { return target.reached(with(d)); };
    if (definition_of(point.model).monotone_in_head_dim) {
        return point.delta_mu_eff() > 0.0 ? rising(least_head_dim, max_head_dim, reached)
                                          : falling(least_head_dim, max_head_dim, reached);
    }
    ReachSearch search([&](std::int64_t d, std::int64_t) { return target.excess(with(d)); },
                       [](std::int64_t) { return 0; });
    Reaching<std::int64_t> answer{.intervals = search.over(least_head_dim, max_head_dim, single_values),
                                  .searched = {least_head_dim, max_head_dim},
                                  .nearest = 0};
    answer.nearest = search.best();
    return answer;
}

std::optional<std::int64_t> ReachingBlockSizes::largest() const {
    if (!any()) return std::nullopt;
    if (trivial_from == searched.low) return searched.high;
    // The interval that ends in trivial sizes, if any, is cut before them.
    for (auto interval = intervals.rbegin(); interval != intervals.rend(); ++interval) {
        if (interval->low < trivial_from) return std::min(interval->high, trivial_from - 1);
    }
    return std::nullopt;
}

ReachingBlockSizes block_sizes_that_reach(RoutingPoint point, double wanted_hit) {
    const Target target(wanted_hit);
    if (point.scorer.sub_blocks > 1) {
        throw InputError(fmt::format(
            "scorer = {}: block_size is not solved for, as only multiples of {} are block sizes; ask each block_size "
            "for its hit probability, or use scorer mean",
            to_string(point.scorer), point.scorer.sub_blocks));
    }
    const Range<std::int64_t> valid = valid_block_sizes(point);
    const auto candidates = [&point](std::int64_t b) {
        return point.seq_len > 0 ? candidates_of_last_query(point.seq_len, b) : point.candidates;
    };
    const auto with = [&point](std::int64_t b, std::int64_t c) {
        RoutingPoint changed = point;
        changed.block_size = b;
        changed.candidates = c;
        return changed;
    };
    validate(with(valid.low, candidates(valid.low)));
    ReachingBlockSizes answer;
    answer.searched = valid;
    answer.trivial_from = first_trivial(point, valid);
    answer.nearest = valid.low;
    if (const std::int64_t high = std::min(valid.high, answer.trivial_from - 1); valid.low <= high) {
        ReachSearch search([&](std::int64_t b, std::int64_t c) { return target.excess(with(b, c)); }, candidates);
        answer.intervals = search.over(valid.low, high, single_values);
        answer.nearest = search.best();
    }
    if (answer.trivial_from <= valid.high) {
        if (answer.any() && answer.intervals.back().high == answer.trivial_from - 1) {
            answer.intervals.back().high = valid.high;
        } else {
            answer.intervals.push_back({answer.trivial_from, valid.high});
        }
    }
    return answer;
}

Reaching<std::int64_t> topks_that_reach(RoutingPoint point, double wanted_hit) {
    const Target target(wanted_hit);
    return rising(1, std::clamp<std::int64_t>(point.candidates + 1, 1, most_topk), [&](std::int64_t k) {
        point.topk = k;
        return target.reached(point);
    });
}

Reaching<double> mu_signals_that_reach(RoutingPoint point, double wanted_hit) {
    const Target target(wanted_hit);
    const auto reached = [&](double mu) {
        point.mu_signal = mu;
        return target.reached(point);
    };
    Reaching<double> answer{.intervals = {}, .searched = {0.0, 1.0}, .nearest = 1.0};
    if (!reached(1.0)) return answer;
    constexpr double precision = 1e-9;
    double reaches = 1.0;
    double fails = 0.0;
    if (reached(0.0)) reaches = 0.0;
    while (reaches - fails > precision) {
        const double middle = 0.5 * (fails + reaches);
        (reached(middle) ? reaches : fails) = middle;
    }
    answer.intervals.push_back({reaches, 1.0});
    return answer;
}

}  // namespace mobalab::analysis
