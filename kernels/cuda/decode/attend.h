#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/decode.h"

namespace mobalab::kernels::cuda {

/// How the keys that a row may keep, those of all its slots and of its own block one behind the other, are cut into
/// parts of one thread block each: at least 64 keys, at most 64 parts. By the integers of the problem alone, so results
/// do not depend on the device or the lengths of others.
struct DecodeParts {
    std::int64_t keys = 0;   ///< of a part
    std::int64_t count = 0;  ///< parts of a row
};
DecodeParts decode_parts(const Problem& problem);

/// Bytes of workspace: a partial result of each part.
std::size_t decode_attention_workspace(const Problem& problem);

/// decode_attention(): partial results, then their combination in the order of the parts.
Status launch_decode_attention(const Problem& problem, const Cache& cache, ConstTensor q, ConstTensor k, ConstTensor v,
                               const std::int32_t* selection, Tensor out, float* lse, void* workspace,
                               cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
