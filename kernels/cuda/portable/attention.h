#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/backward/attention_backward.h"
#include "kernels/cuda/host/path.h"
#include "kernels/kernels.h"

// Attention of the portable path: what forward/attention.h and backward/attention_backward.h are to the Hopper one.
namespace mobalab::kernels::cuda::portable {

/// By lists, whatever is asked for: choose_forward() asks for nothing else here.
std::size_t attention_forward_workspace(const Problem& problem, ForwardAlgorithm);
Status enqueue_attention_forward(const Problem& problem, ForwardAlgorithm, ConstTensor q, ConstTensor k, ConstTensor v,
                                 const std::int32_t* selection, Tensor out, float* lse, void* workspace,
                                 cudaStream_t stream);

std::size_t attention_backward_workspace(const Problem& problem);
Status enqueue_attention_backward(const Problem& problem, const BackwardTensors& tensors, void* workspace,
                                  cudaStream_t stream);

}  // namespace mobalab::kernels::cuda::portable
