#include "analysis/sphere_block_scores.h"

#include "analysis/normal_block_scores.h"

namespace mobalab::analysis {
namespace {

constexpr BlockScoreLaws laws = {
    .trouble = sphere_trouble,
    .problem = sphere_problem,
    .signal =
        [](const RoutingPoint& point) {
            return NormalSignal{normal_signal_mean(point), fixed_cluster_sd(point)};
        },
    .noise_at_fixed_signal = sphere_noise_at_fixed_signal,
};

}  // namespace

/// Unit queries and keys, the affinities of the cluster fixed: the exact law of a unit-norm router.
extern const KeyModelDefinition sphere_model;
constexpr KeyModelDefinition sphere_model = {.name = "sphere",
                                             .rows = Rows::affinities,
                                             .sphere_affinities = true,
                                             .takes_key_correlation = true,
                                             .takes_key_conv = true,
                                             .laws = &laws};

}  // namespace mobalab::analysis
