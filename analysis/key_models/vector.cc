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

/// The keys of `sphere`, drawn with all their coordinates: the same law, block by block.
extern const KeyModelDefinition vector_model;
constexpr KeyModelDefinition vector_model = {.name = "vector",
                                             .rows = Rows::vectors,
                                             .sphere_affinities = true,
                                             .takes_key_correlation = true,
                                             .takes_key_conv = true,
                                             .laws = &laws};

}  // namespace mobalab::analysis
