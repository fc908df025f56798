#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "experiments/measure/cuda/window_rows.h"
#include "kernels/kernels.h"

namespace mobalab::experiments::cuda {

struct DensePassArgs {
    WindowRows rows;
    const std::byte* q = nullptr;  ///< [rows, head_dim]
    const std::byte* k = nullptr;  ///< [keys, head_dim]
    const std::byte* v = nullptr;  ///< [keys, head_dim]
    std::int32_t keys = 0;         ///< more than the position of the last row
    float scale_log2 = 0.0F;
    const float* lse_log2 = nullptr;  ///< [rows], of launch_row_pass()
    float* out = nullptr;             ///< [rows, head_dim]
};

/// Attention over all keys: fp32 sums of weights times values, the weights in two 16-bit halves (within 2^-16 of their
/// own size), so that errors of the kernels' 16-bit weights and outputs can be told from it.
cudaError_t launch_dense_pass(kernels::DataType dtype, int head_dim, const DensePassArgs& args, cudaStream_t stream);

}  // namespace mobalab::experiments::cuda
