#pragma once

#include "kernels/cuda/routing/route_launch.cuh"

namespace mobalab::kernels::cuda {

/// As many groups as shared memory (227 KiB) and registers (120 a thread with 4 groups) allow.
template <int HeadDim, int Parts, Scoring scoring>
struct ProductShapes {
    static constexpr bool wide = HeadDim > 128, narrow = HeadDim == 64;
    using Short = RouteShape<HeadDim, ShortList, wide ? 2 : 4,
                             wide     ? 2
                             : narrow ? 4
                                      : 2,
                             narrow ? 6
                             : wide ? 2
                                    : 5,
                             Parts, scoring>;
    using Medium = RouteShape<HeadDim, MediumList, wide ? 2 : 3, wide ? 2 : 3,
                              narrow ? 6
                              : wide ? 2
                                     : 4,
                              Parts, scoring>;
    using Long = RouteShape<HeadDim, LongList, wide ? 1 : 2, wide ? 1 : 2, 2, Parts, scoring>;
};

template <typename T, int HeadDim, int Parts, Scoring scoring = Scoring::products>
Status launch_product_shapes(RouteArguments& arguments, cudaStream_t stream) {
    using Shapes = ProductShapes<HeadDim, Parts, scoring>;
    return launch_route_lists<T, typename Shapes::Short, typename Shapes::Medium, typename Shapes::Long>(arguments,
                                                                                                         stream);
}

template <typename T, int HeadDim>
Status launch_route_parts(RouteArguments& arguments, bool split, cudaStream_t stream) {
    return split ? launch_product_shapes<T, HeadDim, 2>(arguments, stream)
                 : launch_product_shapes<T, HeadDim, 1>(arguments, stream);
}

template <typename T>
Status launch_route_products(RouteArguments& arguments, int padded_head_dim, bool split, cudaStream_t stream) {
    if (padded_head_dim == 64) return launch_route_parts<T, 64>(arguments, split, stream);
    if (padded_head_dim == 128) return launch_route_parts<T, 128>(arguments, split, stream);
    return launch_route_parts<T, 256>(arguments, split, stream);
}

}  // namespace mobalab::kernels::cuda
