#pragma once

#include "kernels/cuda/routing/route_products.cuh"

namespace mobalab::kernels::cuda {

template <typename T>
Status launch_route_sub_blocks(RouteArguments& arguments, int padded_head_dim, cudaStream_t stream) {
    constexpr Scoring scoring = Scoring::best_of_group;
    if (padded_head_dim == 64) return launch_product_shapes<T, 64, 1, scoring>(arguments, stream);
    if (padded_head_dim == 128) return launch_product_shapes<T, 128, 1, scoring>(arguments, stream);
    return launch_product_shapes<T, 256, 1, scoring>(arguments, stream);
}

/// Queries take twice the registers of one map, so there are fewer groups.
template <int HeadDim>
struct RangeShapes {
    static constexpr int stages = HeadDim == 64 ? 6 : 4;
    using Short = RouteShape<HeadDim, ShortList, 3, 3, stages, 2, Scoring::ranges>;
    using Medium = RouteShape<HeadDim, MediumList, 3, 3, stages, 2, Scoring::ranges>;
    using Long = RouteShape<HeadDim, LongList, 2, 2, 2, 2, Scoring::ranges>;
};

template <typename T, int HeadDim>
Status launch_range_shapes(RouteArguments& arguments, cudaStream_t stream) {
    using Shapes = RangeShapes<HeadDim>;
    return launch_route_lists<T, typename Shapes::Short, typename Shapes::Medium, typename Shapes::Long>(arguments,
                                                                                                         stream);
}

template <typename T>
Status launch_route_ranges(RouteArguments& arguments, int padded_head_dim, cudaStream_t stream) {
    return padded_head_dim == 64 ? launch_range_shapes<T, 64>(arguments, stream)
                                 : launch_range_shapes<T, 128>(arguments, stream);
}

}  // namespace mobalab::kernels::cuda
