#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// Largest and smallest value of each channel of the keys of every (sub-)block, [sub-blocks, heads_k, head_dim] in the
/// dtype of the keys, in one pass over them; NaN where there is one among them, zero for a sub-block without keys. Null
/// where not wanted.
Status launch_extremes(const Problem& problem, ConstTensor k, const std::int32_t* block_base, void* maxima,
                       void* minima, cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
