#include "kernels/cuda/routing/route_products.cuh"

namespace mobalab::kernels::cuda {

template Status launch_route_products<__half>(RouteArguments&, int, bool, cudaStream_t);

}  // namespace mobalab::kernels::cuda
