#include "kernels/cuda/portable/routing/route_launch.cuh"

namespace mobalab::kernels::cuda::portable {
namespace {

/// Lists and buffers in 99 KB; a tile and its survey take all registers.
template <int HeadDim>
using LongShape = RouteShape<HeadDim, LongTopK, 4, 2>;

}  // namespace

Status launch_route_long(RouteParams& params, int padded, cudaStream_t stream) {
    if (padded == 0) return launch_route_shape<LongShape<0>>(params, stream);
    if (padded == 64) return launch_route_shape<LongShape<64>>(params, stream);
    if (padded == 128) return launch_route_shape<LongShape<128>>(params, stream);
    return launch_route_shape<LongShape<256>>(params, stream);
}

}  // namespace mobalab::kernels::cuda::portable
