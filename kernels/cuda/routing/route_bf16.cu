#include "kernels/cuda/routing/route_launch.cuh"

namespace mobalab::kernels::cuda {

template Status launch_route_kernel<__nv_bfloat16>(RouteArguments&, int, cudaStream_t);

}  // namespace mobalab::kernels::cuda
