#include <algorithm>
#include <cmath>

#include "analysis/binomial_tail.h"
#include "analysis/hit_problem.h"
#include "analysis/log_space.h"

namespace mobalab::analysis {
namespace {

/// The K routed blocks are a draw of K of the c candidates, R of them needles: P(H = i) = C(R, i) C(n_c, K - i) / C(c,
/// K), one i after the other by its ratio to the one before. One needle is found in K of c draws.
LogHitMiss found_at_least(const RoutingPoint& point, std::int64_t found) {
    const std::int64_t routed = point.routed();
    if (point.needles == 1) {
        const auto candidates = static_cast<double>(point.candidates);
        return {std::log(static_cast<double>(routed) / candidates),
                std::log(static_cast<double>(point.candidates - routed) / candidates)};
    }
    const std::int64_t least = std::max<std::int64_t>(0, routed - point.noise_blocks());
    double log_exactly = log_binomial_coefficient(point.needles, least) +
                         log_binomial_coefficient(point.noise_blocks(), routed - least) -
                         log_binomial_coefficient(point.candidates, routed);
    double hit = log_zero;
    double miss = log_zero;
    for (std::int64_t i = least; i <= std::min(point.needles, routed); ++i) {
        double& side = i >= found ? hit : miss;
        side = log_sum_exp(side, log_exactly);
        log_exactly += std::log(static_cast<double>((point.needles - i) * (routed - i)) /
                                static_cast<double>((i + 1) * (point.noise_blocks() - routed + i + 1)));
    }
    // The smaller of the two has all its digits.
    return hit < miss ? LogHitMiss{hit, log_one_minus_exp(hit)} : LogHitMiss{log_one_minus_exp(miss), miss};
}

constexpr ScorerLaw law = {.trouble = [](const RoutingPoint&, const KeyModelDefinition&) { return std::string(); },
                           .found_at_least = found_at_least};

}  // namespace

/// Looks at nothing: what chance alone finds, the control of every comparison.
extern const ScorerDefinition random_scorer;
constexpr ScorerDefinition random_scorer = {.name = "random", .parts = 0, .part = {}, .divides = false, .law = &law};

}  // namespace mobalab::analysis
