#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/backward/block_backward.h"
#include "kernels/kernels.h"

namespace mobalab::kernels::cuda::portable {

/// Enqueues one run of every list of a pass; head_dim a multiple of 8 up to 256.
Status launch_block_backward(DataType dtype, int multiprocessors, const BlockBackwardArgs& args, cudaStream_t stream);

}  // namespace mobalab::kernels::cuda::portable
