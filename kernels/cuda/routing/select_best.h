#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/routing/route_work.cuh"
#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

inline constexpr int most_selected_slots = 1024;

/// Enqueues the choice from stored scores: the best p.slots of every row of `items` items of item_rows rows from
/// p.first_item on, in the order of kernels.h, and the slot of block 0 before them where there is one. At most
/// most_selected_slots slots, at most 2^16 columns.
Status launch_select_best(const RouteParams& p, int items, int item_rows, cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
