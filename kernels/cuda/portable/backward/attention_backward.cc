#include "kernels/cuda/backward/attention_backward.h"

#include "kernels/cuda/host/multiprocessors.h"
#include "kernels/cuda/portable/attention.h"
#include "kernels/cuda/portable/backward/block_backward.h"

namespace mobalab::kernels::cuda::portable {
namespace {

RunShape run_shape(const Problem& problem) {
    return {.keys = keys_per_backward_run(widest_head_dim(problem))};
}

}  // namespace

std::size_t attention_backward_workspace(const Problem& problem) {
    return backward_workspace(problem, run_shape(problem));
}

Status enqueue_attention_backward(const Problem& problem, const BackwardTensors& tensors, void* workspace,
                                  cudaStream_t stream) {
    int multiprocessors = 0;
    if (Status s = count_multiprocessors(multiprocessors); !s.ok()) return s;
    const auto launch = [&](const BlockBackwardArgs& args) {
        return launch_block_backward(problem.dtype, multiprocessors, args, stream);
    };
    return enqueue_backward(problem, run_shape(problem), tensors, workspace, stream, launch);
}

}  // namespace mobalab::kernels::cuda::portable
