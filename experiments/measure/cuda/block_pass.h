#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "experiments/measure/cuda/unit_pass.h"

namespace mobalab::experiments::cuda {

struct BlockPassArgs {
    WindowRows window;
    UnitArrays units;
    const float* lse_log2 = nullptr;  ///< [rows]
    float scale = 0.0F;
    float scale_log2 = 0.0F;
    std::int32_t block_size = 0;  ///< 16, 32, ... or 512
    std::int32_t blocks = 0;      ///< a row of the arrays [rows, blocks], of which the candidates are written

    float* mass = nullptr;      ///< softmax mass of a block without key 0
    float* log_mass = nullptr;  ///< log2 of its mass over that of the row, key 0 with it; null: not wanted
    float* cumulant = nullptr;  ///< s mean z + s^2 / 2 var z, s = scale, population variance (cum2); null: not wanted

    // [rows]
    float* first_key_mass = nullptr;  ///< mass of key 0 where it is in a candidate, else 0
    float* past_mass = nullptr;
    float* past_mass_no0 = nullptr;
    float* first_mass = nullptr;
    float* first_mass_no0 = nullptr;
    std::int32_t* needle_key = nullptr;  ///< of the largest z among keys 1 ... (b - 2) B - 1, the lowest of equals; -1
};

/// Units become the blocks of one size: BlockOutcomes, and what the reference routers rank by.
cudaError_t launch_block_pass(const BlockPassArgs& args, cudaStream_t stream);

}  // namespace mobalab::experiments::cuda
