#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/block_backward.h"
#include "kernels/kernels.h"

// The two memory-bound ends of attention_backward: one row of every query, 16 bytes a thread.
namespace mobalab::kernels::cuda {

struct LseDotArgs {
    const void* out = nullptr;
    const void* d_out = nullptr;
    std::int64_t out_token = 0, out_head = 0;  ///< strides in bytes
    std::int64_t d_out_token = 0, d_out_head = 0;
    const float* lse = nullptr;  ///< [heads, tokens]
    float2* lse_dot = nullptr;   ///< [heads, tokens]: log2(e) lse, d_out . out
    std::int64_t tokens = 0;
    std::int32_t heads = 1;
    std::int32_t head_dim = 0;
};
Status launch_lse_dot(DataType dtype, const LseDotArgs& args, cudaStream_t stream);

/// Adds the listed partials of every query of a chunk to the own one in its row of dq, in fp32 and in the order of the
/// keys, and brings the row into the order of the columns.
struct CombineGradientArgs {
    RowTensor dq;
    const char* partials = nullptr;  ///< [rows, head_dim]
    std::int32_t head_dim = 0;
    std::int32_t slots = 0;  ///< topk - 1
    ListView lists;
};
Status launch_combine_gradient(DataType dtype, const CombineGradientArgs& args, cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
