#pragma once

#include <memory>

#include "analysis/scorer.h"
#include "sim/samplers/sampler.h"

namespace mobalab::sim {

/// Scorers that look at the coordinates of keys, on real vectors in fp32: every key is made (KeyRecipe of
/// sim/simd/key_tile_layout.h, rho = 0; tokens 0 .. m - 1 of a trial are the cluster, the needle first), every channel
/// of a block summarised, and the query scores the summaries (score_term() there). Positions in the block change no
/// summary. `definition` has parts, and the point no sub-blocks.
///
/// Throws analysis::InputError for a head_dim beyond kMostTileHeadDim.
std::unique_ptr<Sampler> make_scored_vector_sampler(const SamplerInput& input,
                                                    const analysis::ScorerDefinition& definition);

}  // namespace mobalab::sim
