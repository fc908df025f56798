#include "kernels/cuda/routing/route_launch.cuh"

namespace mobalab::kernels::cuda {

template Status launch_route_kernel<__half>(RouteArguments&, int, cudaStream_t);

}  // namespace mobalab::kernels::cuda
