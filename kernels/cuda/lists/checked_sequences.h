#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/cuda/tile/sequences.h"
#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// Bytes of the copy that checked_sequences() makes; 0 without cu_seqlens.
std::size_t checked_sequences_size(const Problem& problem);

/// The sequences of an attention problem for kernels that number the lists of all sequences, where overlapping ones
/// would write over one another: enqueues a check of cu_seqlens into a copy in `workspace`. Boundaries that break the
/// rules of kernels.h become empty sequences, all of them; Sequences::refused() then tells. Without cu_seqlens nothing
/// is enqueued.
Status checked_sequences(const Problem& problem, void* workspace, cudaStream_t stream, Sequences& sequences);

}  // namespace mobalab::kernels::cuda
