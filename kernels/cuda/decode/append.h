#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/decode.h"

namespace mobalab::kernels::cuda {

/// append_centroids(): one launch, a thread block for each sub-block and head that may hold new keys.
Status launch_append(const Problem& problem, const Cache& cache, ConstTensor k, std::int64_t appended, void* centroids,
                     cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
