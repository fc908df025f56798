#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/host/path.h"
#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

struct BackwardTensors;

/// What the paths do each in their own way; everything else is shared.
struct PathTable {
    /// Exact top-(topk - 1), see routing/route.h.
    Status (*route)(const Problem&, ConstTensor q, const void* high, const void* low, const std::int32_t* block_base,
                    float* stored, std::int32_t* selection, float* scores, cudaStream_t);
    /// By the algorithm of choose_forward() (forward/forward_choice.h).
    std::size_t (*attention_forward_workspace)(const Problem&, ForwardAlgorithm);
    Status (*attention_forward)(const Problem&, ForwardAlgorithm, ConstTensor q, ConstTensor k, ConstTensor v,
                                const std::int32_t* selection, Tensor out, float* lse, void* workspace, cudaStream_t);
    std::size_t (*attention_backward_workspace)(const Problem&);
    Status (*attention_backward)(const Problem&, const BackwardTensors&, void* workspace, cudaStream_t);
};

/// Null where the library was built without 90a.
const PathTable* hopper_path_table();
const PathTable& portable_path_table();

/// That of current_path().
const PathTable& current_path_table();

}  // namespace mobalab::kernels::cuda
