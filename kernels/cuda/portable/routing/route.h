#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/kernels.h"

namespace mobalab::kernels::cuda::portable {

/// What routing/route.h's launch_route() is to the Hopper path.
Status launch_route(const Problem& problem, ConstTensor q, const void* high, const void* low,
                    const std::int32_t* block_base, float* stored, std::int32_t* selection, float* scores,
                    cudaStream_t stream);

}  // namespace mobalab::kernels::cuda::portable
