#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/forward/block_forward.h"
#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// Joins the partials of every query of args.windows into its output row and log-sum-exp, where head_dim is the width
/// in the place of its first partial: memory traffic only, 16 bytes a thread, the partials of a query in a fixed order.
/// width in {32, 64, 96, 128, 256}, dtype bf16 or fp16.
Status launch_combine(DataType dtype, int width, const BlockForwardArgs& args, cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
