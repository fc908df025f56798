#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/backward/attention_backward.h"
#include "kernels/cuda/host/multiprocessors.h"
#include "kernels/cuda/host/tensor_map.h"

namespace mobalab::kernels::cuda {
namespace {

RunShape run_shape(const Problem& problem) {
    const std::int64_t head_dim = widest_head_dim(problem);
    if (problem.block_size > narrow_list) return {.keys = keys_per_backward_run(head_dim)};
    return {.shared_list = narrow_list, .keys = narrow_list, .units_at_once = head_dim <= widest_split_head ? 2 : 1};
}

/// What the kernels need beyond their arguments.
struct KernelInputs {
    int multiprocessors = 0;
    CUtensorMap k_map{}, v_map{};

    Status prepare(const Problem& p, const BackwardTensors& tensors) {
        if (p.tokens_q() == 0 || p.tokens_k() == 0) return {};
        if (Status s = count_multiprocessors(multiprocessors); !s.ok()) return s;
        const int box = run_shape(p).keys;
        if (Status s = make_tensor_map("k", tensors.k, p.dtype, key_extents(p), box, k_map); !s.ok()) return s;
        return make_tensor_map("v", tensors.v, p.dtype, value_extents(p), box, v_map);
    }
};

template <typename T>
Status enqueue(const Problem& problem, const BackwardTensors& tensors, void* workspace, cudaStream_t stream) {
    KernelInputs inputs;
    if (Status s = inputs.prepare(problem, tensors); !s.ok()) return s;
    const auto launch = [&](const BlockBackwardArgs& args) {
        return launch_block_backward<T>(inputs.multiprocessors, args, inputs.k_map, inputs.v_map, stream);
    };
    return enqueue_backward(problem, run_shape(problem), tensors, workspace, stream, launch);
}

}  // namespace

std::size_t attention_backward_workspace(const Problem& problem) {
    return backward_workspace(problem, run_shape(problem));
}

Status enqueue_attention_backward(const Problem& problem, const BackwardTensors& tensors, void* workspace,
                                  cudaStream_t stream) {
    return problem.dtype == DataType::bf16 ? enqueue<__nv_bfloat16>(problem, tensors, workspace, stream)
                                           : enqueue<__half>(problem, tensors, workspace, stream);
}

}  // namespace mobalab::kernels::cuda
