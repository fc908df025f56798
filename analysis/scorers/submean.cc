#include <fmt/format.h>

#include "analysis/hit_problem.h"
#include "analysis/limits.h"
#include "analysis/sub_block_scores.h"

namespace mobalab::analysis {
namespace {

std::string trouble(const RoutingPoint& point, const KeyModelDefinition& model) {
    if (!model.sphere_affinities) {
        return fmt::format("scorer = {}: its exact probability is not known for model {}; use command simulate",
                           to_string(point.scorer), model.name);
    }
    if (point.cluster_size > most_sub_block_cluster) {
        return fmt::format(
            "cluster_size = {}: scorer {} has an exact probability up to cluster_size {}; nearest valid value is {}; "
            "or use command simulate",
            point.cluster_size, to_string(point.scorer), most_sub_block_cluster, most_sub_block_cluster);
    }
    return "";
}

/// validate() leaves one needle: found is 1.
LogHitMiss found_at_least(const RoutingPoint& point, std::int64_t /*found*/) {
    return solve_by_threshold(sub_block_problem(point));
}

constexpr ScorerLaw law = {.trouble = trouble, .found_at_least = found_at_least};

}  // namespace

/// The best of a block's r sub-blocks, each scored by the mean of its B / r keys; r = B: the largest single affinity.
extern const ScorerDefinition submean_scorer;
constexpr ScorerDefinition submean_scorer = {.name = "submean", .parts = 1, .part = {}, .divides = true, .law = &law};

}  // namespace mobalab::analysis
