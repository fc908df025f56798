#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// How attention_forward divides a problem (lists.h, block_forward.h): what it costs and where partials live, never a
/// bit of the results.
struct ForwardTuning {
    std::int64_t window = 0;  ///< query tokens of a window; 0: one window a chunk
    std::int32_t slots = 1;   ///< windows whose partials exist at a time
    std::int32_t tiles_per_item = 8;
    bool keys_evict_first = false;
};

/// The choice for a problem. head_dim 256: chunks as large as a cap on their scratch allows (2.75 times the bytes of q,
/// or 1.07 GB, or half of q, if that is more), but at least 64K queries of a head. Otherwise by the bytes that partials
/// and keys move, see attention.cu.
ForwardTuning choose_tuning(const Problem& problem);

/// Workspace of attention_forward: lists of a chunk, partials of the windows in work.
std::size_t attention_forward_workspace(const Problem& problem, const ForwardTuning& tuning);
inline std::size_t attention_forward_workspace(const Problem& problem) {
    return attention_forward_workspace(problem, choose_tuning(problem));
}

/// kernels.h's attention_forward on `workspace`, all on one stream.
Status enqueue_attention_forward(const Problem& problem, const ForwardTuning& tuning, ConstTensor q, ConstTensor k,
                                 ConstTensor v, const std::int32_t* selection, Tensor out, float* lse, void* workspace,
                                 cudaStream_t stream);
inline Status enqueue_attention_forward(const Problem& problem, ConstTensor q, ConstTensor k, ConstTensor v,
                                        const std::int32_t* selection, Tensor out, float* lse, void* workspace,
                                        cudaStream_t stream) {
    return enqueue_attention_forward(problem, choose_tuning(problem), q, k, v, selection, out, lse, workspace, stream);
}

}  // namespace mobalab::kernels::cuda
