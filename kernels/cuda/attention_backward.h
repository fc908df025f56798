#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// The tensors of attention_backward in kernels.h.
struct BackwardTensors {
    ConstTensor q, k, v, out, d_out;
    const float* lse = nullptr;
    const std::int32_t* selection = nullptr;
    Tensor dq, dk, dv;
};

/// Workspace of attention_backward: 8 bytes per (head, query), and lists, partials of dq and split sums of one chunk of
/// heads (lists.h, block_backward.h). A chunk is as many query heads as a cap on its scratch allows: half of the bytes
/// of q, or 256 MB where that is more; but at least the query heads of one key head.
std::size_t attention_backward_workspace(const Problem& problem);

Status enqueue_attention_backward(const Problem& problem, const BackwardTensors& tensors, void* workspace,
                                  cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
