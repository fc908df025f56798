#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>

#include "kernels/cuda/backward/block_backward.h"
#include "kernels/kernels.h"

// attention_backward apart from its heavy kernel, block_backward, of which there are several: the caller launches it.
namespace mobalab::kernels::cuda {

/// The tensors of attention_backward in kernels.h.
struct BackwardTensors {
    ConstTensor q, k, v, out, d_out;
    const float* lse = nullptr;
    const std::int32_t* selection = nullptr;
    Tensor dq, dk, dv;
};

/// Workspace of enqueue_backward(): lists (lists.h) and 8 bytes per query of a chunk of heads, 1/16 of the bytes of q
/// (1/14 where lists have 64 keys) or 24 MB; partials of dq and split sums of one pass over some windows of these heads
/// (block_backward.h), about half of the bytes of q, of short sequences 2.4 times these, but 130 to 240 MB (and where
/// head_dim is no multiple of 32, once more the bytes of q, rounded up to that); whichever is more, and the query heads
/// of one key head at least. With more slots
/// than most_sorted_slots a pass may see less of these heads than whole sequences: partials then take about 1 GB, lists
/// as much, and there are fp32 sums of dk and dv for all keys.
std::size_t backward_workspace(const Problem& problem, const RunShape& shape);

/// Enqueues block_backward for the run of the arguments.
using BlockBackwardLaunch = std::function<Status(const BlockBackwardArgs&)>;

/// kernels.h's attention_backward on `workspace`, all on one stream.
Status enqueue_backward(const Problem& problem, const RunShape& shape, const BackwardTensors& tensors, void* workspace,
                        cudaStream_t stream, const BlockBackwardLaunch& launch_block_backward);

/// The same by the Hopper kernels.
std::size_t attention_backward_workspace(const Problem& problem);
Status enqueue_attention_backward(const Problem& problem, const BackwardTensors& tensors, void* workspace,
                                  cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
