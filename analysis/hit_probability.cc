#include "analysis/hit_probability.h"

#include <cmath>
#include <string>

#include "analysis/hit_problem.h"
#include "analysis/log_space.h"
#include "analysis/top_k.h"

namespace mobalab::analysis {

namespace {

/// P(H >= found), H the number of needles among the routed blocks (hit_problem.h).
HitProbability found_at_least(const RoutingPoint& point, std::int64_t found) {
    const std::int64_t slots = point.routed() - found + 1;
    if (slots < 1) return {log_zero, 0.0};
    if (point.noise_blocks() < slots) return {0.0, log_zero};
    const LogHitMiss result = definition_of(point.scorer.kind).law->found_at_least(point, found);
    return {result.hit, result.miss};
}

HitProbability expected_share_found(const RoutingPoint& point) {
    if (point.needles == 1) return found_at_least(point, 1);
    HitProbability sum{log_zero, log_zero};
    for (std::int64_t found = 1; found <= point.needles; ++found) {
        const HitProbability one = found_at_least(point, found);
        sum.log_hit = log_sum_exp(sum.log_hit, one.log_hit);
        sum.log_miss = log_sum_exp(sum.log_miss, one.log_miss);
    }
    // Only the smaller of the two sums has all its digits: near 1, a logarithm of a mean is rounding alone.
    const double log_needles = std::log(static_cast<double>(point.needles));
    const double log_hit = std::fmin(0.0, sum.log_hit - log_needles);
    const double log_miss = std::fmin(0.0, sum.log_miss - log_needles);
    return log_hit < log_miss ? HitProbability{log_hit, log_one_minus_exp(log_hit)}
                              : HitProbability{log_one_minus_exp(log_miss), log_miss};
}

}  // namespace

double HitProbability::hit() const {
    return std::exp(log_hit);
}

double HitProbability::miss() const {
    return std::exp(log_miss);
}

void require_exact_probability(const RoutingPoint& point) {
    const std::string trouble = exact_trouble(point, definition_of(point.model));
    if (!trouble.empty()) throw InputError(trouble);
}

HitProbability exact_hit_probability(const RoutingPoint& point) {
    validate(point);
    require_exact_probability(point);
    if (point.goal == Goal::each || point.needles == 1) return expected_share_found(point);
    return found_at_least(point, point.goal == Goal::any ? 1 : point.needles);
}

}  // namespace mobalab::analysis
