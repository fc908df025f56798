#include "analysis/scorer_approximation.h"

#include <fmt/format.h>

#include "analysis/binomial_tail.h"
#include "analysis/log_space.h"
#include "analysis/normal_block_scores.h"
#include "analysis/normal_law.h"
#include "analysis/top_k.h"

namespace mobalab::analysis {
namespace {

constexpr std::int64_t least_head_dim_of_approximation = 16;

}  // namespace

bool has_approximation(const RoutingPoint& point) {
    return definition_of(point.scorer.kind).approximation != nullptr &&
           point.head_dim >= least_head_dim_of_approximation;
}

HitProbability approximate_hit_probability(const RoutingPoint& point) {
    validate(point);
    const ScorerDefinition& scorer = definition_of(point.scorer.kind);
    if (scorer.approximation == nullptr) {
        throw InputError(fmt::format("scorer = {}: it has no normal approximation; scorers that have one: {}",
                                     to_string(point.scorer), scorers_with_approximation()));
    }
    if (point.head_dim < least_head_dim_of_approximation) {
        throw InputError(
            fmt::format("head_dim = {}: sums of fewer than {} channels are not nearly normal; nearest valid "
                        "value is {}",
                        point.head_dim, least_head_dim_of_approximation, least_head_dim_of_approximation));
    }
    if (point.routed() < 1) return {log_zero, 0.0};
    if (point.noise_blocks() < point.routed()) return {0.0, log_zero};
    const NormalSignal signal = scorer.approximation(point);
    if (!(signal.sd > 0.0)) {
        const LogTails rivals = BinomialTail(point.noise_blocks(), point.routed())
                                    .at(log_normal_upper(signal.mean), log_normal_upper(-signal.mean));
        return {rivals.lower, rivals.upper};
    }
    const LogHitMiss result = solve_top_k(normal_problem(point.noise_blocks(), point.routed(), signal));
    return {result.hit, result.miss};
}

}  // namespace mobalab::analysis
