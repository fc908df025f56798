#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/kernels.h"

namespace mobalab::experiments::cuda {

struct ScaledRowsArgs {
    const void* from = nullptr;  ///< 16-bit elements
    void* to = nullptr;          ///< of the same dtype
    std::int64_t elements = 0;
    float factor = 1.0F;
};

/// Rounded to the dtype.
cudaError_t launch_scaled_rows(kernels::DataType dtype, const ScaledRowsArgs& args, cudaStream_t stream);

struct RowErrorArgs {
    std::int32_t rows = 0;
    std::int32_t width = 0;
    const void* out = nullptr;     ///< [rows, width] of 16-bit elements; null: zeros
    const float* dense = nullptr;  ///< [rows, width]
    float* error = nullptr;        ///< [rows] += |out - dense|^2
};

/// Squared distances of rows; |dense|^2 where out is null.
cudaError_t launch_row_error(kernels::DataType dtype, const RowErrorArgs& args, cudaStream_t stream);

}  // namespace mobalab::experiments::cuda
