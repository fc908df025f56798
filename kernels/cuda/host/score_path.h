#pragma once

#include "kernels/scorer.h"

namespace mobalab::kernels::cuda {

/// How the kernels of this backend reach the scores of a scorer.
enum class ScorePath {
    products,    ///< q . summary of the block
    sub_blocks,  ///< the best product of a block's sub-blocks
    ranges,      ///< max(q, 0) . maximum + min(q, 0) . minimum of the block
    hashes,      ///< of numbers alone: no tensor is looked at
    none,        ///< there is no kernel for its parts
};

ScorePath score_path(const Scorer& scorer);

}  // namespace mobalab::kernels::cuda
