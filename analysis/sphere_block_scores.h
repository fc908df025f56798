#pragma once

#include "analysis/key_model.h"

namespace mobalab::analysis {

// Laws of block scores where the keys are independent and uniform on the sphere: sums of affinities
// (analysis/affinity_sum.h) over a block, less B.

/// Noise T_B - B against the signal c + T_(B-m) - B, c the sum of the signal affinities. Not known where keys are
/// correlated or convolved.
extern const BlockScoreLaws sphere_block_score_laws;

}  // namespace mobalab::analysis
