#pragma once

#include <optional>

#include "kernels/cuda/host/path.h"
#include "kernels/kernels.h"

// Which of the two algorithms of attention_forward a problem takes on the Hopper path: key-major lists with partial
// results (attention.h), whose work grows with the selected blocks, or query-major tiles under a mask
// (masked_forward.h), whose work grows with all keys, but which need neither lists nor partials.
namespace mobalab::kernels::cuda {

/// Whether the query-major kernels take the problem: head_dim and head_dim_v up to 128, blocks of 16, 32 or 64 keys or
/// a multiple of 128, and a mask that fits in shared memory (some 65,000 keys with blocks of at most 128).
bool queries_can(const Problem& problem);

/// Query-major on the Hopper path, where it can and is asked for, or nothing is asked for and it is expected to take
/// less time. Depends on the integers of the problem only, of its longest sequence.
ForwardAlgorithm choose_forward(const Problem& problem, CudaPath path, std::optional<ForwardAlgorithm> asked);

}  // namespace mobalab::kernels::cuda
