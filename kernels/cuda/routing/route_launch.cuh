#pragma once

#include <algorithm>

#include "kernels/cuda/host/launch.h"
#include "kernels/cuda/host/status.h"
#include "kernels/cuda/routing/route_kernel.cuh"

namespace mobalab::kernels::cuda {

struct RouteArguments {
    RouteParams params;
    CUtensorMap queries, high, low;
    bool split = false;  // centroids in two halves
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
    return launch_early("route_kernel", kernel, dim3(static_cast<unsigned>(grid)), Shape::threads, Shape::shared_bytes,
                        stream, p, arguments.queries, arguments.high, arguments.low);
}

/// As many groups as shared memory (227 KiB) and registers (120 a thread with 4 groups) allow.
template <typename T, int HeadDim, int Parts>
Status launch_route_lists(RouteArguments& arguments, cudaStream_t stream) {
    constexpr bool wide = HeadDim > 128, narrow = HeadDim == 64;
    using Short = ShortTopK<8, 32>;
    using Medium = ShortTopK<16, 48>;
    using ShortShape = RouteShape<HeadDim, Short, wide ? 2 : 4,
                                  wide     ? 2
                                  : narrow ? 4
                                           : 2,
                                  narrow ? 6
                                  : wide ? 2
                                         : 5,
                                  Parts>;
    using MediumShape = RouteShape<HeadDim, Medium, wide ? 2 : 3, wide ? 2 : 3, narrow ? 6 : wide ? 2 : 4, Parts>;
    using LongShape = RouteShape<HeadDim, LongTopK, wide ? 1 : 2, wide ? 1 : 2, 2, Parts>;
    const int slots = arguments.params.slots;
    if (slots < Short::Size) return launch_route_shape<T, ShortShape>(arguments, stream);
    if (slots < Medium::Size) return launch_route_shape<T, MediumShape>(arguments, stream);
    return launch_route_shape<T, LongShape>(arguments, stream);
}

template <typename T, int HeadDim>
Status launch_route_parts(RouteArguments& arguments, cudaStream_t stream) {
    return arguments.split ? launch_route_lists<T, HeadDim, 2>(arguments, stream)
                           : launch_route_lists<T, HeadDim, 1>(arguments, stream);
}

template <typename T>
Status launch_route_kernel(RouteArguments& arguments, int padded_head_dim, cudaStream_t stream) {
    if (padded_head_dim == 64) return launch_route_parts<T, 64>(arguments, stream);
    if (padded_head_dim == 128) return launch_route_parts<T, 128>(arguments, stream);
    return launch_route_parts<T, 256>(arguments, stream);
}

extern template Status launch_route_kernel<__nv_bfloat16>(RouteArguments&, int, cudaStream_t);
extern template Status launch_route_kernel<__half>(RouteArguments&, int, cudaStream_t);

}  // namespace mobalab::kernels::cuda
