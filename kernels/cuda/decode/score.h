#pragma once

#include <cuda_runtime_api.h>

#include "kernels/decode.h"

namespace mobalab::kernels::cuda {

/// Scores of the candidates of every row, fp32 [heads_q * batch * seqlen_q, longest_blocks()]; what is no candidate is
/// not written. The scorer keeps something of the keys.
Status launch_decode_scores(const Problem& problem, const Cache& cache, ConstTensor q, const void* centroids,
                            float* scores, cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
