#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "experiments/measure/cuda/window_rows.h"

namespace mobalab::experiments::cuda {

struct TopKArgs {
    WindowRows window;
    std::int32_t block_size = 0;
    const float* scores = nullptr;  ///< [rows, blocks], finite; null: a block's score is its number (router window)
    std::int32_t blocks = 0;
    std::int32_t* selection = nullptr;  ///< [rows, slots]
    std::int32_t slots = 0;
    bool keep_first = false;  ///< block 0 comes first whatever its score
};

/// The rule of kernels::route() on any scores: the best candidates of every row, best first, the higher of equal
/// blocks first, -1 past their number.
cudaError_t launch_top_k(const TopKArgs& args, cudaStream_t stream);

}  // namespace mobalab::experiments::cuda
