#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/routing/route_launch.h"
#include "kernels/kernels.h"

// Routing with more slots than the lists of the fast kernels hold: the same scores, by the same products, go to
// memory, some rows at a time, and select_best.h chooses from them.
namespace mobalab::kernels::cuda {

// Defined per dtype in translation units of their own, like those of route_launch.h. Scores of `problem` lie in
// arguments.params.all_scores.

template <typename T>
Status launch_scored_products(const Problem& problem, RouteArguments& arguments, int padded_head_dim, bool split,
                              cudaStream_t stream);
template <typename T>
Status launch_scored_sub_blocks(const Problem& problem, RouteArguments& arguments, int padded_head_dim,
                                cudaStream_t stream);
template <typename T>
Status launch_scored_ranges(const Problem& problem, RouteArguments& arguments, int padded_head_dim,
                            cudaStream_t stream);
Status launch_scored_hashes(const Problem& problem, RouteArguments& arguments, cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
