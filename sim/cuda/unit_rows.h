#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "sim/streams/unit_rows.h"

namespace mobalab::sim::cuda {

/// fill_unit_rows() of sim/streams/unit_rows.h into device memory, [count, head_dim], the same bits; the words come
/// from cuRAND's Philox4_32_10 generator. Element: float, or __nv_bfloat16 or __half, to which the floats are rounded
/// (to nearest, ties to even). head_dim must be a multiple of 4 (cudaErrorInvalidValue), `out` aligned to 4 elements.
/// Runs on the stream; returns launch errors.
template <class Element>
cudaError_t fill_unit_rows(const UnitRows& rows, std::int64_t first, Element* out, std::int64_t count,
                           cudaStream_t stream);

/// The same of the `count` rows whose numbers are listed in device memory.
template <class Element>
cudaError_t fill_listed_unit_rows(const UnitRows& rows, const std::int64_t* numbers, Element* out, std::int64_t count,
                                  cudaStream_t stream);

}  // namespace mobalab::sim::cuda
