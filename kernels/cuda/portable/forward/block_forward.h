#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/forward/attention.h"
#include "kernels/cuda/forward/block_forward.h"
#include "kernels/kernels.h"

namespace mobalab::kernels::cuda::portable {

/// Width 64, 128 or 256. Runs of 64 keys at 256: keys and values of 128 would not fit in 99 KB of shared memory.
ForwardShape forward_shape(const Problem& problem);

/// Enqueues the partials of args.windows, of that shape.
Status launch_block_forward(DataType dtype, const ForwardShape& shape, int multiprocessors,
                            const BlockForwardArgs& args, cudaStream_t stream);

}  // namespace mobalab::kernels::cuda::portable
