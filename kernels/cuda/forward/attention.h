#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>

#include "kernels/cuda/forward/block_forward.h"
#include "kernels/cuda/host/path.h"
#include "kernels/cuda/lists/lists.h"
#include "kernels/kernels.h"

// attention_forward apart from its heavy kernel, block_forward, of which there are several: the caller launches it.
namespace mobalab::kernels::cuda {

/// What a block_forward kernel works on at a time.
struct ForwardShape {
    std::int32_t width = 128;                       ///< columns: head_dim and zeros behind it
    std::int32_t keys_per_run = 128;                ///< 128 or 64; of a span 256
    std::int64_t shared_list = widest_shared_list;  ///< ListOptions::shared_list
};

/// How attention_forward divides a problem. The lists of a chunk (nearly always the whole problem) are built at once;
/// block_forward and combine then take as many windows a launch as a cap on the workspace allows: 2 times the bytes of
/// q, or 1.07 GB (1.5 times the bytes of q, if that is more) where that is less; but 64 MiB and one window at least.
/// With more slots than most_sorted_slots chunks have lists of 2^27 rows at most (8 bytes each), windows are as short
/// as the cap asks, and the cap is not below 1.07 GB.
struct ForwardPlan {
    ListPlan lists;
    std::int32_t windows_per_launch = 1;
    std::int32_t launches() const;  ///< of a chunk
};
ForwardPlan make_forward_plan(const Problem& problem, const ForwardShape& shape);

/// Workspace of enqueue_forward(): lists of a chunk, partials of a launch.
std::size_t forward_workspace(const Problem& problem, const ForwardShape& shape);

/// Enqueues block_forward for the windows of the arguments.
using BlockForwardLaunch = std::function<Status(const BlockForwardArgs&)>;

/// kernels.h's attention_forward on `workspace`: lists, then partials and combination in turns, all on one stream.
Status enqueue_forward(const Problem& problem, const ForwardShape& shape, ConstTensor q, ConstTensor k, ConstTensor v,
                       const std::int32_t* selection, Tensor out, float* lse, void* workspace, cudaStream_t stream,
                       const BlockForwardLaunch& launch_block_forward);

/// What the Hopper kernels work on: spans where lists have more keys than a run and there is a kernel for them, short
/// runs for small blocks whose place in a run, with head_dim, is known to a kernel.
ForwardShape hopper_forward_shape(const Problem& problem);

/// kernels.h's attention_forward on the Hopper path, by lists or by queries (masked_forward.h).
std::size_t attention_forward_workspace(const Problem& problem, ForwardAlgorithm algorithm);
Status enqueue_attention_forward(const Problem& problem, ForwardAlgorithm algorithm, ConstTensor q, ConstTensor k,
                                 ConstTensor v, const std::int32_t* selection, Tensor out, float* lse, void* workspace,
                                 cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
