#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "kernels/cuda/routing/route_work.cuh"
#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

struct RouteArguments {
    RouteParams params;
    CUtensorMap queries, high, low;
    int processors = 1;
};

// Defined per dtype in translation units of their own. head_dim padded to 64, 128 or 256.

/// The query times the summaries of blocks; split: these come in two halves.
template <typename T>
Status launch_route_products(RouteArguments& arguments, int padded_head_dim, bool split, cudaStream_t stream);

/// The best product of each group of sub-blocks.
template <typename T>
Status launch_route_sub_blocks(RouteArguments& arguments, int padded_head_dim, cudaStream_t stream);

/// Maxima and minima, high and low. Its two sets of queries leave no registers for head_dim 256.
template <typename T>
Status launch_route_ranges(RouteArguments& arguments, int padded_head_dim, cudaStream_t stream);

/// Hashes: no tensor maps.
Status launch_route_hashes(RouteArguments& arguments, cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
