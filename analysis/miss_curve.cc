#include "analysis/miss_curve.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "analysis/hit_problem.h"
#include "analysis/limits.h"

namespace mobalab::analysis {
namespace {

constexpr int nodes_a_value = 10;
// Of the two polynomials, in log-odds; the better one is then far closer to the truth.
constexpr double agreement = 1e-7;
constexpr double infinity = std::numeric_limits<double>::infinity();

// Step s of node j: exact_steps * 2^(j/2).
std::int64_t step_of_node(std::int64_t node) {
    return std::llround(static_cast<double>(MissCurve::exact_steps) * std::exp2(0.5 * static_cast<double>(node)));
}

// Value at x of the polynomial through the nodes (Neville).
template <std::size_t count>
double interpolate(const std::array<double, count>& xs, std::array<double, count> ys, double x) {
    for (std::size_t order = 1; order < xs.size(); ++order) {
        for (std::size_t i = 0; i + order < xs.size(); ++i) {
            ys[i] = ((x - xs[i + order]) * ys[i] + (xs[i] - x) * ys[i + 1]) / (xs[i] - xs[i + order]);
        }
    }
    return ys[0];
}

// The polynomial of two degrees less: far from the other where neither is right.
double interpolate_without_ends(const std::array<double, nodes_a_value>& xs,
                                const std::array<double, nodes_a_value>& ys, double x) {
    std::array<double, nodes_a_value - 2> inner_xs;
    std::array<double, nodes_a_value - 2> inner_ys;
    std::copy(xs.begin() + 1, xs.end() - 1, inner_xs.begin());
    std::copy(ys.begin() + 1, ys.end() - 1, inner_ys.begin());
    return interpolate(inner_xs, inner_ys, x);
}

HitProbability of_log_odds(double log_odds) {
    const double smaller = -std::abs(log_odds) - std::log1p(std::exp(-std::abs(log_odds)));
    const double larger = -std::log1p(std::exp(-std::abs(log_odds)));
    return log_odds > 0.0 ? HitProbability{.log_hit = smaller, .log_miss = larger}
                          : HitProbability{.log_hit = larger, .log_miss = smaller};
}

}  // namespace

MissCurve::MissCurve(const RoutingPoint& point)
    : point_(point),
      checked_(point.scorer.kind != ScorerKind::mean || (has_block_score_laws(point) && signal_is_fixed(point))) {
    point_.seq_len = 0;
}

// Values are computed outside the lock: two threads that ask for the same one compute the same bits.
template <typename Compute>
HitProbability MissCurve::remembered(Memory& memory, std::int64_t candidates, Compute compute) const {
    {
        const std::lock_guard lock(mutex_);
        if (const auto found = memory.find(candidates); found != memory.end()) {
            return found->second;
        }
    }
    const HitProbability value = compute();
    const std::lock_guard lock(mutex_);
    return memory.emplace(candidates, value).first->second;
}

HitProbability MissCurve::exact(std::int64_t candidates) const {
    return remembered(exact_, candidates, [&] {
        RoutingPoint point = point_;
        point.candidates = candidates;
        return exact_hit_probability(point);
    });
}

double MissCurve::log_odds_of_node(std::int64_t node) const {
    const HitProbability value = exact(point_.routed() + step_of_node(node));
    return value.log_miss - value.log_hit;
}

HitProbability MissCurve::at(std::int64_t candidates) const {
    const std::int64_t step = candidates - point_.routed();
    if (step <= 0) {
        return {.log_hit = 0.0, .log_miss = -infinity};
    }
    if (point_.routed() == 0) {
        return {.log_hit = -infinity, .log_miss = 0.0};
    }
    if (step <= exact_steps) {
        return exact(candidates);
    }
    return remembered(interpolated_, candidates, [&] { return interpolated(candidates); });
}

HitProbability MissCurve::interpolated(std::int64_t candidates) const {
    const std::int64_t step = candidates - point_.routed();
    const double position = 2.0 * std::log2(static_cast<double>(step) / static_cast<double>(exact_steps));
    std::int64_t last = static_cast<std::int64_t>(position) + nodes_a_value / 2;
    while (point_.routed() + step_of_node(last) > most_candidates) {
        --last;
    }
    const std::int64_t first = last - nodes_a_value + 1;
    std::array<double, nodes_a_value> xs;
    std::array<double, nodes_a_value> ys;
    for (std::size_t i = 0; i < xs.size(); ++i) {
        const std::int64_t node = first + static_cast<std::int64_t>(i);
        xs[i] = std::log(static_cast<double>(step_of_node(node)));
        ys[i] = log_odds_of_node(node);
        if (!std::isfinite(ys[i])) {  // a certain hit or a certain miss at this mu: nothing to interpolate
            return exact(candidates);
        }
    }
    const double x = std::log(static_cast<double>(step));
    const double log_odds = interpolate(xs, ys, x);
    if (checked_ && !(std::abs(log_odds - interpolate_without_ends(xs, ys, x)) < agreement)) return exact(candidates);
    return of_log_odds(log_odds);
}

const MissCurve& MissCurves::of(RoutingPoint point) {
    point.candidates = 1;
    const std::lock_guard lock(mutex_);
    std::unique_ptr<MissCurve>& curve = curves_[canonical_text(point)];
    if (curve == nullptr) {
        curve = std::make_unique<MissCurve>(point);
    }
    return *curve;
}

}  // namespace mobalab::analysis
