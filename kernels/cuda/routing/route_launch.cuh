#pragma once

#include <algorithm>

#include "kernels/cuda/host/launch.h"
#include "kernels/cuda/host/status.h"
#include "kernels/cuda/routing/route_kernel.cuh"
#include "kernels/cuda/routing/route_launch.h"

namespace mobalab::kernels::cuda {

using ShortList = ShortTopK<8, 32>;
using MediumList = ShortTopK<16, 48>;
using LongList = LongTopK;

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
    const std::int64_t items = std::int64_t{p.sequences.batch} * p.heads_q * p.row_tiles;
    const auto grid = static_cast<int>(std::min<std::int64_t>(arguments.processors, items));
    p.step_tile = grid % p.row_tiles;
    p.step_head = grid / p.row_tiles % p.heads_q;
    p.step_b = grid / p.row_tiles / p.heads_q;
    return launch_early("route_kernel", kernel, dim3(static_cast<unsigned>(grid)), Shape::threads, Shape::shared_bytes,
                        stream, p, arguments.queries, arguments.high, arguments.low);
}

/// The first of three shapes, from short to long lists, whose lists hold the slots that are scored.
template <typename T, typename Short, typename Medium, typename Long>
Status launch_route_lists(RouteArguments& arguments, cudaStream_t stream) {
    const int slots = arguments.params.slots;
    if (slots < Short::TopK::Size) return launch_route_shape<T, Short>(arguments, stream);
    if (slots < Medium::TopK::Size) return launch_route_shape<T, Medium>(arguments, stream);
    return launch_route_shape<T, Long>(arguments, stream);
}

}  // namespace mobalab::kernels::cuda
