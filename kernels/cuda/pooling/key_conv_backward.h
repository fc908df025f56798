#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// Sums of d_weight per 1024 keys, for the widest convolution.
std::size_t key_conv_backward_workspace(const Problem& problem);

/// key_conv_backward of kernels.h: fp32 arithmetic, one rounding at the end, sums of d_weight in a fixed order; strides
/// resolved, rows 16-byte aligned. There may be no keys.
Status launch_key_conv_backward(const Problem& problem, ConstTensor k, const float* weight, int width,
                                ConstTensor d_out, Tensor dk, float* d_weight, void* workspace, cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
