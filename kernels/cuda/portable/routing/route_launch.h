#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/portable/routing/route_shape.cuh"
#include "kernels/kernels.h"

namespace mobalab::kernels::cuda::portable {

// By length of the lists, in translation units of their own. padded: head_dim up to 64, 128 or 256; 0 for hashes.

/// Up to 15 slots.
Status launch_route_short(RouteParams& params, int padded, cudaStream_t stream);
/// Up to 63.
Status launch_route_long(RouteParams& params, int padded, cudaStream_t stream);
/// More: scores go to memory, some rows at a time, and select_best.h chooses from them.
Status launch_route_scored(const Problem& problem, RouteParams& params, int padded, cudaStream_t stream);

}  // namespace mobalab::kernels::cuda::portable
