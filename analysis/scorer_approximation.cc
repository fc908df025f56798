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

/// The model's own, where the point is scored by the mean and the model has one.
bool models_own(const RoutingPoint& point) {
    const KeyModelDefinition& model = definition_of(point.model);
    return point.scorer.kind == ScorerKind::mean && model.approximation != nullptr && model.approximates(point);
}

/// Throws InputError where the scorer has no approximation of the point.
void require_scorers_own(const RoutingPoint& point) {
    if (definition_of(point.scorer.kind).approximation == nullptr) {
        throw InputError(fmt::format("scorer = {}: it has no normal approximation; scorers that have one: {}",
                                     to_string(point.scorer), scorers_with_approximation()));
    }
    if (!definition_of(point.model).sphere_affinities) {
        throw InputError(
            fmt::format("model = {} with scorer = {}: the approximation is of unit keys; nearest valid "
                        "model is sphere",
                        to_string(point.model), to_string(point.scorer)));
    }
    if (point.head_dim < least_head_dim_of_approximation) {
        throw InputError(
            fmt::format("head_dim = {}: sums of fewer than {} channels are not nearly normal; nearest valid "
                        "value is {}",
                        point.head_dim, least_head_dim_of_approximation, least_head_dim_of_approximation));
    }
}

}  // namespace

bool has_approximation(const RoutingPoint& point) {
    return models_own(point) ||
           (definition_of(point.scorer.kind).approximation != nullptr && definition_of(point.model).sphere_affinities &&
            point.head_dim >= least_head_dim_of_approximation);
}

HitProbability approximate_hit_probability(const RoutingPoint& point) {
    validate(point);
    const bool of_model = models_own(point);
    if (!of_model) require_scorers_own(point);
    if (point.routed() < 1) return {log_zero, 0.0};
    if (point.noise_blocks() < point.routed()) return {0.0, log_zero};
    if (of_model) return definition_of(point.model).approximation(point);
    const NormalSignal signal = definition_of(point.scorer.kind).approximation(point);
    if (!(signal.sd > 0.0)) {
        const LogTails rivals = BinomialTail(point.noise_blocks(), point.routed())
                                    .at(log_normal_upper(signal.mean), log_normal_upper(-signal.mean));
        return {rivals.lower, rivals.upper};
    }
    const LogHitMiss result = solve_top_k(normal_problem(point.noise_blocks(), point.routed(), signal));
    return {result.hit, result.miss};
}

}  // namespace mobalab::analysis
