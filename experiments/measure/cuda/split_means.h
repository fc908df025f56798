#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/kernels.h"

namespace mobalab::experiments::cuda {

struct SplitMeansArgs {
    const void* k = nullptr;  ///< [keys, head_dim] of 16-bit elements
    std::int32_t keys = 0;
    std::int32_t head_dim = 0;
    std::int32_t sub_block_keys = 0;
    std::int32_t sub_blocks = 0;  ///< of keys [j sub_block_keys, (j + 1) sub_block_keys)
    void* means = nullptr;        ///< [sub_blocks, 2, head_dim] in the dtype of k
};

/// fp32 means of sub-blocks in two 16-bit halves whose sum is the mean within 2^-16 (bf16) or 2^-22 (fp16; 2^-25 where
/// that is more). The last one is the mean of the keys it has, zero if it has none. kernels::compute_centroids() does
/// not keep those of single sub-blocks on backend cuda.
cudaError_t launch_split_means(kernels::DataType dtype, const SplitMeansArgs& args, cudaStream_t stream);

}  // namespace mobalab::experiments::cuda
