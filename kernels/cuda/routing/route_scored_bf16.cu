#include "kernels/cuda/routing/route_scored.cuh"

namespace mobalab::kernels::cuda {

template Status launch_scored_products<__nv_bfloat16>(const Problem&, RouteArguments&, int, bool, cudaStream_t);
template Status launch_scored_sub_blocks<__nv_bfloat16>(const Problem&, RouteArguments&, int, cudaStream_t);
template Status launch_scored_ranges<__nv_bfloat16>(const Problem&, RouteArguments&, int, cudaStream_t);

}  // namespace mobalab::kernels::cuda
