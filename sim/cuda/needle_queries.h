#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "sim/streams/needle_queries.h"

namespace mobalab::sim::cuda {

/// Device memory that build_needle_queries() needs for each query it builds at once.
std::size_t needle_query_bytes(const NeedleQueries& recipe);

/// build_needle_queries() of sim/streams/needle_queries.h for queries [first, first + count) into device memory: the
/// same bits, the words from cuRAND's Philox4_32_10 generator. `slots`: the recipe's slots of these queries, in device
/// memory. `queries` [count, head_dim]: Element is float, or __nv_bfloat16 or __half, to which the floats are rounded.
/// `memory`: count * needle_query_bytes(recipe) bytes, aligned to 16. head_dim must be a multiple of 4
/// (cudaErrorInvalidValue). Runs on the stream; returns launch errors.
template <class Element>
cudaError_t build_needle_queries(const NeedleQueries& recipe, const std::int64_t* slots, std::int64_t first,
                                 std::int64_t count, Element* queries, std::uint8_t* feasible, void* memory,
                                 cudaStream_t stream);

}  // namespace mobalab::sim::cuda
