#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// What route() writes where the slot of block 0 is the only one of a row (keep_first, two blocks kept): no score is
/// needed. scores may be null.
Status launch_first_block(const Problem& problem, std::int32_t* selection, float* scores, cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
