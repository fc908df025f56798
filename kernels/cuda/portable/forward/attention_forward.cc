#include "kernels/cuda/forward/attention.h"
#include "kernels/cuda/host/multiprocessors.h"
#include "kernels/cuda/portable/attention.h"
#include "kernels/cuda/portable/forward/block_forward.h"

namespace mobalab::kernels::cuda::portable {

std::size_t attention_forward_workspace(const Problem& problem, ForwardAlgorithm) {
    return forward_workspace(problem, forward_shape(problem));
}

Status enqueue_attention_forward(const Problem& problem, ForwardAlgorithm, ConstTensor q, ConstTensor k, ConstTensor v,
                                 const std::int32_t* selection, Tensor out, float* lse, void* workspace,
                                 cudaStream_t stream) {
    int multiprocessors = 0;
    if (Status s = count_multiprocessors(multiprocessors); !s.ok()) return s;
    const ForwardShape shape = forward_shape(problem);
    const auto launch = [&](const BlockForwardArgs& args) {
        return launch_block_forward(problem.dtype, shape, multiprocessors, args, stream);
    };
    return enqueue_forward(problem, shape, q, k, v, selection, out, lse, workspace, stream, launch);
}

}  // namespace mobalab::kernels::cuda::portable
