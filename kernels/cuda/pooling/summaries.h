#pragma once

#include "kernels/cuda/pooling/centroid.h"

namespace mobalab::kernels::cuda {

/// What the problem's scorer keeps of the keys, one pass over them: CentroidOutput of a scorer that keeps means; `high`
/// of one that keeps maxima or minima; `high` and `low` of one that keeps both, in the order of its parts, each element
/// of which lies heads_k * head_dim behind the one before (kernels.h).
Status launch_summaries(const Problem& problem, ConstTensor k, const std::int32_t* block_base, CentroidOutput out,
                        cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
