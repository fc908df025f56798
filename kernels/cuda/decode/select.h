#pragma once

#include <cuda_runtime_api.h>

#include "kernels/decode.h"

namespace mobalab::kernels::cuda {

/// The exact best of every row's candidates, and block 0 where it is always kept, by the rules of kernels.h. scores: as
/// launch_decode_scores() writes them; null where the scorer looks at no tensor, or no slot is scored. kept_scores may
/// be null.
Status launch_decode_select(const Problem& problem, const Cache& cache, const float* scores, std::int32_t* selection,
                            float* kept_scores, cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
