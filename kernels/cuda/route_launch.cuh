#pragma once

#include <algorithm>

#include "kernels/cuda/route_kernel.cuh"
#include "kernels/cuda/status.h"

namespace mobalab::kernels::cuda {

struct RouteArguments {
    RouteParams params;
    CUtensorMap queries, high, low;
    int processors = 1;
};

/// Defined per dtype in its own translation unit. head_dim padded to 64, 128 or 256.
template <typename T>
Status launch_route_kernel(RouteArguments& arguments, int padded_head_dim, cudaStream_t stream);

template <typename T, typename Shape>
Status launch_route_shape(RouteArguments& arguments, cudaStream_t stream) {
    RouteParams& p = arguments.params;
    const auto kernel = route_kernel<T, Shape>;
    if (Status s = device_status(
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Shape::shared_bytes),
            "route_kernel");
        !s.ok()) {
        return s;
    }
    p.row_tiles = (p.sequences.seqlen_q + Shape::rows - 1) / Shape::rows;
    const int pairs = p.sequences.batch * p.heads_q;
    const int grid = std::min(arguments.processors, pairs * p.row_tiles);
    p.step_tile = grid % p.row_tiles;
    p.step_head = grid / p.row_tiles % p.heads_q;
    p.step_b = grid / p.row_tiles / p.heads_q;
    kernel<<<static_cast<unsigned>(grid), Shape::threads, Shape::shared_bytes, stream>>>(p, arguments.queries,
                                                                                         arguments.high, arguments.low);
    return launch_status("route_kernel");
}

/// The list sizes: what is left of 227 KiB of shared memory decides how many groups and stages there are.
template <typename T, int HeadDim>
Status launch_route_lists(RouteArguments& arguments, cudaStream_t stream) {
    constexpr bool wide = HeadDim > 128;
    constexpr int stages = HeadDim == 64 ? 4 : wide ? 1 : 2;
    constexpr int long_groups = wide ? 1 : 2;
    if (arguments.params.slots < 8) {
        return launch_route_shape<T, RouteShape<HeadDim, ShortTopK<8, 16>, wide ? 2 : 3, stages>>(arguments, stream);
    }
    if (arguments.params.slots < 16) {
        return launch_route_shape<T, RouteShape<HeadDim, ShortTopK<16, wide ? 16 : 24>, 2, stages>>(arguments, stream);
    }
    return launch_route_shape<T, RouteShape<HeadDim, LongTopK, long_groups, 2>>(arguments, stream);
}

template <typename T>
Status launch_route_kernel(RouteArguments& arguments, int padded_head_dim, cudaStream_t stream) {
    if (padded_head_dim == 64) return launch_route_lists<T, 64>(arguments, stream);
    if (padded_head_dim == 128) return launch_route_lists<T, 128>(arguments, stream);
    return launch_route_lists<T, 256>(arguments, stream);
}

extern template Status launch_route_kernel<__nv_bfloat16>(RouteArguments&, int, cudaStream_t);
extern template Status launch_route_kernel<__half>(RouteArguments&, int, cudaStream_t);

}  // namespace mobalab::kernels::cuda
