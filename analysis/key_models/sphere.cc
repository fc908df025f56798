#include "analysis/sphere_block_scores.h"

namespace mobalab::analysis {

/// Unit queries and keys, the affinities of the cluster fixed: the exact law of a unit-norm router.
extern const KeyModelDefinition sphere_model;
constexpr KeyModelDefinition sphere_model = {.name = "sphere",
                                             .rows = Rows::affinities,
                                             .sphere_affinities = true,
                                             .takes_key_correlation = true,
                                             .takes_key_conv = true,
                                             .laws = &sphere_block_score_laws};

}  // namespace mobalab::analysis
