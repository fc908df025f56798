#include "analysis/inverse.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <concepts>

#include "analysis/hit_probability.h"

namespace mobalab::analysis {
namespace {

constexpr std::int64_t min_head_dim = 2;
constexpr std::int64_t max_head_dim = 65536;
constexpr std::int64_t max_block_size = 65536;
constexpr std::int64_t max_topk = 512;
constexpr std::int64_t max_candidates = 1'000'000;

/// "At least wanted", judged on the side where the probability has all its digits.
class Target {
public:
    explicit Target(double wanted_hit) : wanted_(wanted_hit) {
        if (!(wanted_hit > 0.0 && wanted_hit < 1.0)) {
            throw InputError(
                fmt::format("wanted_hit = {}: must be between 0 and 1, both excluded; for example 0.9", wanted_hit));
        }
    }

    bool reached(const RoutingPoint& point) const {
        const HitProbability p = exact_hit_probability(point);
        return wanted_ < 0.5 ? p.log_hit >= std::log(wanted_) : p.log_miss <= std::log1p(-wanted_);
    }

private:
    double wanted_;
};

/// Smallest value in (fails, reaches] that reaches, given that fails does not and reaches does.
template <std::predicate<std::int64_t> Reached>
std::int64_t first_reached(std::int64_t fails, std::int64_t reaches, const Reached& reached) {
    while (reaches - fails > 1) {
        const std::int64_t middle = fails + (reaches - fails) / 2;
        (reached(middle) ? reaches : fails) = middle;
    }
    return reaches;
}

template <std::predicate<std::int64_t> Reached>
std::optional<std::int64_t> smallest(std::int64_t low, std::int64_t high, const Reached& reached) {
    if (reached(low)) return low;
    if (!reached(high)) return std::nullopt;
    return first_reached(low, high, reached);
}

RoutingPoint with_block_size(RoutingPoint point, std::int64_t block_size) {
    point.block_size = block_size;
    return point;
}

/// Largest block size in [low, high] at the point's candidates.
std::optional<std::int64_t> largest_at_fixed_candidates(const RoutingPoint& point, std::int64_t low, std::int64_t high,
                                                        const Target& target) {
    const auto reached = [&](std::int64_t b) { return target.reached(with_block_size(point, b)); };
    if (reached(high)) return high;
    std::int64_t start = low;
    if (!reached(low)) {
        const auto falls_after = [&](std::int64_t b) {
            return exact_hit_probability(with_block_size(point, b + 1)).log_hit <=
                   exact_hit_probability(with_block_size(point, b)).log_hit;
        };
        if (low + 1 >= high || falls_after(low)) return std::nullopt;
        start = falls_after(high - 1) ? first_reached(low, high - 1, falls_after) : high;
        if (!reached(start)) return std::nullopt;
    }
    return first_reached(start, high, [&](std::int64_t b) { return !reached(b); }) - 1;
}

/// ceil(a / b) for positive integers.
std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
    return (a - 1) / b + 1;
}

/// From the largest block size down, one run of block sizes with equal candidates after the other.
std::optional<std::int64_t> largest_in_sequence(RoutingPoint point, const Target& target) {
    const std::int64_t fewest = point.routed() + 1;
    std::int64_t high = std::min(max_block_size, ceil_div(point.seq_len, fewest) - 1);
    while (high >= point.cluster_size) {
        point.candidates = candidates_of_last_query(point.seq_len, high);
        if (point.candidates > max_candidates) break;
        const std::int64_t low = std::max(point.cluster_size, ceil_div(point.seq_len, point.candidates + 1));
        if (const auto found = largest_at_fixed_candidates(point, low, high, target)) return found;
        high = low - 1;
    }
    return std::nullopt;
}

}  // namespace

std::optional<std::int64_t> smallest_head_dim(RoutingPoint point, double wanted_hit) {
    const Target target(wanted_hit);
    const auto reached = [&](std::int64_t d) {
        point.head_dim = d;
        return target.reached(point);
    };
    // Without a signal more dimensions do not help.
    if (!(point.delta_mu_eff() > 0.0)) return reached(min_head_dim) ? std::optional(min_head_dim) : std::nullopt;
    if (!reached(max_head_dim)) return std::nullopt;
    // From above, by halves: the few smallest dimensions are the slow ones to evaluate.
    std::int64_t reaches = max_head_dim;
    while (reaches > min_head_dim && reached(reaches / 2)) reaches /= 2;
    if (reaches == min_head_dim) return min_head_dim;
    return first_reached(reaches / 2, reaches, reached);
}

std::optional<std::int64_t> largest_block_size(RoutingPoint point, double wanted_hit) {
    const Target target(wanted_hit);
    if (point.cluster_size > max_block_size) {
        throw InputError(fmt::format("cluster_size = {}: must be at most {} here; nearest valid value is {}",
                                     point.cluster_size, max_block_size, max_block_size));
    }
    point.block_size = std::max<std::int64_t>(1, point.cluster_size);
    if (point.seq_len > 0) {
        point.candidates = 1;
        validate(point);
        return largest_in_sequence(point, target);
    }
    validate(point);
    return largest_at_fixed_candidates(point, point.block_size, max_block_size, target);
}

std::optional<std::int64_t> smallest_topk(RoutingPoint point, double wanted_hit) {
    const Target target(wanted_hit);
    return smallest(1, max_topk, [&](std::int64_t k) {
        point.topk = k;
        return target.reached(point);
    });
}

std::optional<double> smallest_mu_signal(RoutingPoint point, double wanted_hit) {
    const Target target(wanted_hit);
    const auto reached = [&](double mu) {
        point.mu_signal = mu;
        return target.reached(point);
    };
    if (reached(0.0)) return 0.0;
    if (!reached(1.0)) return std::nullopt;
    constexpr double precision = 1e-9;
    double fails = 0.0;
    double reaches = 1.0;
    while (reaches - fails > precision) {
        const double middle = 0.5 * (fails + reaches);
        (reached(middle) ? reaches : fails) = middle;
    }
    return reaches;
}

}  // namespace mobalab::analysis
