#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "sim/streams/philox_key.h"

namespace mobalab::sim::cuda {

/// fill_gaussian() of sim/streams/gaussian.h into device memory, the same bits: `count` standard normals, of which
/// out[4 i + j] is the j-th of Philox block (key, subsequence, first_draw + i). The words come from cuRAND's
/// Philox4_32_10 generator. Runs on the stream; returns launch errors.
cudaError_t fill_gaussian(float* out, std::int64_t count, PhiloxKey key, std::uint64_t subsequence,
                          std::uint64_t first_draw, cudaStream_t stream);

}  // namespace mobalab::sim::cuda
