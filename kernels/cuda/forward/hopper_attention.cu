#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/forward/attention.h"
#include "kernels/cuda/forward/masked_forward.h"
#include "kernels/cuda/host/multiprocessors.h"
#include "kernels/cuda/host/tensor_map.h"

namespace mobalab::kernels::cuda {
namespace {

constexpr int widest_wgmma = 128;

/// The kernel for the width, with what it needs beyond the arguments.
class BlockForward {
public:
    Status prepare(const Problem& problem, ConstTensor k, ConstTensor v) {
        dtype_ = problem.dtype;
        shape_ = hopper_forward_shape(problem);
        if (Status s = count_multiprocessors(multiprocessors_); !s.ok()) return s;
        if (shape_.width > widest_wgmma || problem.tokens_k() == 0) return {};
        const int box = forward_box_keys(keys_of_list(problem.block_size, shape_.shared_list));
        if (Status s = make_tensor_map("k", k, dtype_, key_extents(problem), box, k_map_); !s.ok()) return s;
        return make_tensor_map("v", v, dtype_, value_extents(problem), box, v_map_);
    }
    Status launch(const BlockForwardArgs& args, cudaStream_t stream) const {
        if (shape_.width > widest_wgmma) {
            return launch_block_forward_mma(dtype_, shape_.width, multiprocessors_, args, stream);
        }
        return dtype_ == DataType::bf16 ? launch_wgmma<__nv_bfloat16>(args, stream)
                                        : launch_wgmma<__half>(args, stream);
    }

private:
    template <typename T>
    Status launch_wgmma(const BlockForwardArgs& args, cudaStream_t stream) const {
        return shape_.keys_per_run == keys_per_span
                   ? launch_block_forward_spans<T>(shape_.width, multiprocessors_, args, k_map_, v_map_, stream)
                   : launch_block_forward_wgmma<T>(shape_.width, multiprocessors_, args, k_map_, v_map_, stream);
    }

    DataType dtype_ = DataType::bf16;
    ForwardShape shape_;
    int multiprocessors_ = 0;
    CUtensorMap k_map_{}, v_map_{};
};

Status enqueue_list_forward(const Problem& problem, ConstTensor q, ConstTensor k, ConstTensor v,
                            const std::int32_t* selection, Tensor out, float* lse, void* workspace,
                            cudaStream_t stream) {
    BlockForward block_forward;
    if (Status s = block_forward.prepare(problem, k, v); !s.ok()) return s;
    const auto launch = [&](const BlockForwardArgs& args) { return block_forward.launch(args, stream); };
    return enqueue_forward(problem, hopper_forward_shape(problem), q, k, v, selection, out, lse, workspace, stream,
                           launch);
}

}  // namespace

std::size_t attention_forward_workspace(const Problem& problem, ForwardAlgorithm algorithm) {
    return algorithm == ForwardAlgorithm::queries ? masked_forward_workspace(problem)
                                                  : forward_workspace(problem, hopper_forward_shape(problem));
}

Status enqueue_attention_forward(const Problem& problem, ForwardAlgorithm algorithm, ConstTensor q, ConstTensor k,
                                 ConstTensor v, const std::int32_t* selection, Tensor out, float* lse, void* workspace,
                                 cudaStream_t stream) {
    return algorithm == ForwardAlgorithm::queries
               ? enqueue_masked_forward(problem, q, k, v, selection, out, lse, workspace, stream)
               : enqueue_list_forward(problem, q, k, v, selection, out, lse, workspace, stream);
}

}  // namespace mobalab::kernels::cuda
