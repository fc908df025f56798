#include "kernels/cuda/routing/route_products.cuh"

namespace mobalab::kernels::cuda {

template Status launch_route_products<__nv_bfloat16>(RouteArguments&, int, bool, cudaStream_t);

}  // namespace mobalab::kernels::cuda
