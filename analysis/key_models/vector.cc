#include "analysis/sphere_block_scores.h"

namespace mobalab::analysis {

/// The keys of `sphere`, drawn with all their coordinates: the same law, block by block.
extern const KeyModelDefinition vector_model;
constexpr KeyModelDefinition vector_model = {.name = "vector",
                                             .rows = Rows::vectors,
                                             .sphere_affinities = true,
                                             .takes_key_correlation = true,
                                             .takes_key_conv = true,
                                             .laws = &sphere_block_score_laws};

}  // namespace mobalab::analysis
