#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// Workspace of attention_forward: lists and partials of one chunk (lists.h, block_forward.h). Chunks are as large as a
/// cap on their scratch allows: 2.75 times the bytes of q, or 1.07 GB (half of q, if that is more) where that is less;
/// but at least 64K queries of a head.
std::size_t attention_forward_workspace(const Problem& problem);

/// kernels.h's attention_forward on `workspace`: for every chunk lists, partials, combination, all on one stream.
Status enqueue_attention_forward(const Problem& problem, ConstTensor q, ConstTensor k, ConstTensor v,
                                 const std::int32_t* selection, Tensor out, float* lse, void* workspace,
                                 cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
