#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "experiments/measure/cuda/unit_pass.h"

namespace mobalab::experiments::cuda {

struct RowPassArgs {
    WindowRows window;
    UnitArrays units;
    float scale_log2 = 0.0F;
    // [rows]
    float* lse_log2 = nullptr;            ///< log2 of the sum of exp(scale z) over all keys the row sees
    std::int32_t* distant_key = nullptr;  ///< key of the largest z among keys 1 ... t - 1025, the lowest of equals; -1
    std::int32_t* overflowed = nullptr;   ///< becomes 1 where lse is no finite number
};

/// What a row's units say of the whole row.
cudaError_t launch_row_pass(const RowPassArgs& args, cudaStream_t stream);

}  // namespace mobalab::experiments::cuda
