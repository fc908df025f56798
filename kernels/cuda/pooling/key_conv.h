#pragma once

#include <cuda_runtime_api.h>

#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// key_conv_forward of kernels.h: fp32 arithmetic, one rounding at the end; strides resolved, rows 16-byte aligned.
Status launch_key_conv(const Problem& problem, ConstTensor k, const float* weight, int width, Tensor out,
                       cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
