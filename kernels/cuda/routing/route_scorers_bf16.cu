#include "kernels/cuda/routing/route_scorers.cuh"

namespace mobalab::kernels::cuda {

template Status launch_route_sub_blocks<__nv_bfloat16>(RouteArguments&, int, cudaStream_t);
template Status launch_route_ranges<__nv_bfloat16>(RouteArguments&, int, cudaStream_t);

}  // namespace mobalab::kernels::cuda
