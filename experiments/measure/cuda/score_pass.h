#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "experiments/measure/cuda/window_rows.h"
#include "kernels/kernels.h"

namespace mobalab::experiments::cuda {

struct ScorePassArgs {
    WindowRows window;
    const std::byte* q = nullptr;          ///< [window.rows, head_dim]
    const std::byte* summaries = nullptr;  ///< [sub-blocks, parts, head_dim], dtype of q, as compute_centroids() writes
    std::int32_t sub_block_count = 0;      ///< of all blocks
    std::int32_t parts = 1;
    kernels::QueryMap map[kernels::max_score_parts] = {};  ///< of each part
    std::int32_t block_size = 0;
    std::int32_t sub_blocks = 1;  ///< of a block: 1, 2, 4, 8 or 16
    float* scores = nullptr;      ///< [rows, blocks]; of no candidate: unspecified
    std::int32_t blocks = 0;
};

/// Scores of all candidates as kernels/scorer.h defines them, from products that are exact and summed in fp32.
cudaError_t launch_score_pass(kernels::DataType dtype, int head_dim, const ScorePassArgs& args, cudaStream_t stream);

}  // namespace mobalab::experiments::cuda
