#include "kernels/cuda/portable/routing/route_launch.cuh"

namespace mobalab::kernels::cuda::portable {
namespace {

/// Lists and buffers in 99 KB; 128 registers a thread, or all where queries of 256 elements need them.
template <int HeadDim>
using ShortShape = RouteShape<HeadDim, ShortTopK<8, 32>, 8, HeadDim <= 128 ? 2 : 1>;
template <int HeadDim>
using MediumShape = RouteShape<HeadDim, ShortTopK<16, 48>, 6, HeadDim <= 128 ? 2 : 1>;

template <int HeadDim>
Status launch(RouteParams& params, cudaStream_t stream) {
    return params.of_path.slots < ShortShape<HeadDim>::TopK::Size
               ? launch_route_shape<ShortShape<HeadDim>>(params, stream)
               : launch_route_shape<MediumShape<HeadDim>>(params, stream);
}

}  // namespace

Status launch_route_short(RouteParams& params, int padded, cudaStream_t stream) {
    if (padded == 0) return launch<0>(params, stream);
    if (padded == 64) return launch<64>(params, stream);
    if (padded == 128) return launch<128>(params, stream);
    return launch<256>(params, stream);
}

}  // namespace mobalab::kernels::cuda::portable
