#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// Exact top-(topk - 1) of the queries over the candidates, as kernels.h's route() writes it. high and low: summaries
/// [sub-blocks, heads_k, head_dim], as they lie among parts, in the dtype of the problem; the two parts of scorer
/// quest, or else halves of one part (a score is q.high + q.low, low may be null). Both are null for a scorer without
/// parts, and not looked at where no slot is scored. block_base: see centroid.h. stored:
/// stored_scores() numbers (score_windows.h).
Status launch_route(const Problem& problem, ConstTensor q, const void* high, const void* low,
                    const std::int32_t* block_base, float* stored, std::int32_t* selection, float* scores,
                    cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
