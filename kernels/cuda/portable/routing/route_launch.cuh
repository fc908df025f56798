#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/host/launch.h"
#include "kernels/cuda/portable/routing/route_kernel.cuh"
#include "kernels/cuda/portable/routing/route_launch.h"

namespace mobalab::kernels::cuda::portable {

template <typename Shape>
Status launch_route_kernel(const RouteParams& params, std::int32_t thread_blocks, cudaStream_t stream) {
    const auto kernel = route_kernel<Shape>;
    if (Status s = allow_shared_memory("route_kernel", reinterpret_cast<const void*>(kernel), Shape::shared_bytes);
        !s.ok()) {
        return s;
    }
    return launch_early("route_kernel", kernel, dim3(static_cast<unsigned>(thread_blocks)), Shape::threads,
                        Shape::shared_bytes, stream, params);
}

/// With all items.
template <typename Shape>
Status launch_route_shape(RouteParams& params, cudaStream_t stream) {
    constexpr std::int64_t most_thread_blocks = std::int64_t{1} << 30;  // the others take turns
    cuda::RouteParams& p = params.of_path;
    p.row_tiles = (p.sequences.seqlen_q + Shape::rows - 1) / Shape::rows;
    const std::int64_t items = std::int64_t{p.sequences.batch} * p.heads_q * p.row_tiles;
    const auto grid = static_cast<std::int32_t>(std::min(items, most_thread_blocks));
    p.step_tile = grid % p.row_tiles;
    p.step_head = grid / p.row_tiles % p.heads_q;
    p.step_b = grid / p.row_tiles / p.heads_q;
    return launch_route_kernel<Shape>(params, grid, stream);
}

}  // namespace mobalab::kernels::cuda::portable
