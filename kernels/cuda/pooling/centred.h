#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// Centroids::centred from the fp32 means of the same keys, both [blocks, heads_k, head_dim]: each less that of block 0
/// of its sequence (in channels where that is finite), in fp32, rounded to the dtype of the problem.
Status launch_centred(const Problem& problem, const float* means, const std::int32_t* block_base, void* centroids,
                      cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
