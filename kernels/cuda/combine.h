#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/block_forward.h"
#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// Enqueues the combination (combine.cuh) of a chunk of one window, for the partials of launch_block_forward_mma().
/// head_dim in {32, 64, 96, 128, 256}, dtype bf16 or fp16.
Status launch_combine(DataType dtype, int head_dim, const BlockForwardArgs& args, cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
