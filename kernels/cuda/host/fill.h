#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/host/tensor_map.h"
#include "kernels/cuda/tile/rows.h"
#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// Zeros in every row of a tensor.
Status launch_clear(const RowTensor& rows, const MapExtents& extents, cudaStream_t stream);

/// One value everywhere.
Status launch_fill(float* values, std::int64_t count, float value, cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
