#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// What route() writes where no score is needed: the slot of block 0 is the only one of a row (keep_first, two blocks
/// kept), or there is no key at all. scores may be null.
Status launch_first_block(const Problem& problem, std::int32_t* selection, float* scores, cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
