#include "analysis/binomial_tail.h"
#include "analysis/hit_problem.h"

namespace mobalab::analysis {
namespace {

LogHitMiss found_at_least(const RoutingPoint& point, std::int64_t found) {
    if (!signal_is_fixed(point)) return solve_top_k(top_k_problem(point, found));
    const LogLaw noise = noise_at_fixed_signal(point);
    const LogTails rivals = BinomialTail(point.noise_blocks(), point.routed() - found + 1).at(noise.upper, noise.lower);
    return {rivals.lower, rivals.upper};
}

constexpr ScorerLaw law = {.trouble = block_score_trouble, .found_at_least = found_at_least};

}  // namespace

/// The router of MoBA: the query against the mean of the keys. Its law is the model's.
extern const ScorerDefinition mean_scorer;
constexpr ScorerDefinition mean_scorer = {.name = "mean", .parts = 1, .part = {}, .divides = false, .law = &law};

}  // namespace mobalab::analysis
