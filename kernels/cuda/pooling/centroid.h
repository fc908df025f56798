#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// Bytes of the table of block numbers that a problem with cu_seqlens needs (0 without): the number of blocks before
/// each sequence.
std::size_t block_base_size(const Problem& problem);

/// Fills the table in `workspace`; null without cu_seqlens, where block numbers follow from the integers alone.
Status make_block_base(const Problem& problem, void* workspace, cudaStream_t stream, const std::int32_t*& block_base);

/// Where centroids go, [blocks, heads_k, head_dim] each: exactly one of `full` (fp32) and `high` (dtype of the keys);
/// with `low` (dtype of the keys) too, high + low is the fp32 mean to twice the precision.
struct CentroidOutput {
    float* full = nullptr;
    void* high = nullptr;
    void* low = nullptr;
};

/// Means of the keys of every block, in fp32, summed in a fixed order.
Status launch_centroids(const Problem& problem, ConstTensor k, const std::int32_t* block_base, CentroidOutput out,
                        cudaStream_t stream);

/// The key convolution, and the means of its rounded output, in one pass: the bits of launch_key_conv() followed by
/// launch_centroids().
Status launch_conv_centroids(const Problem& problem, ConstTensor k, const float* weight, int width, Tensor convolved,
                             const std::int32_t* block_base, CentroidOutput out, cudaStream_t stream);

/// Splits fp32 centroids into high and low halves of the dtype of the problem.
Status launch_split_centroids(const Problem& problem, const float* full, void* high, void* low, cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
