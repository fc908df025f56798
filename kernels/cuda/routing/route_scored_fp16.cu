#include "kernels/cuda/routing/route_scored.cuh"

namespace mobalab::kernels::cuda {

template Status launch_scored_products<__half>(const Problem&, RouteArguments&, int, bool, cudaStream_t);
template Status launch_scored_sub_blocks<__half>(const Problem&, RouteArguments&, int, cudaStream_t);
template Status launch_scored_ranges<__half>(const Problem&, RouteArguments&, int, cudaStream_t);

}  // namespace mobalab::kernels::cuda
