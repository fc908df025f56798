#pragma once

#include <algorithm>

#include "kernels/cuda/host/launch.h"
#include "kernels/cuda/host/status.h"
#include "kernels/cuda/routing/route_kernel.cuh"
#include "kernels/cuda/routing/route_scored.h"
#include "kernels/cuda/routing/score_windows.h"
#include "kernels/cuda/routing/select_best.h"

namespace mobalab::kernels::cuda {

/// Scores of a window, then its selection, window after window in the same memory.
template <typename T, typename Shape>
Status launch_score_windows(const Problem& problem, RouteArguments& arguments, cudaStream_t stream) {
    const auto kernel = route_kernel<T, Shape>;
    if (Status s = device_status(
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Shape::shared_bytes),
            "route_kernel");
        !s.ok()) {
        return s;
    }
    const ScoreWindows windows(problem, Shape::rows);
    RouteParams& p = arguments.params;
    p.row_tiles = static_cast<std::int32_t>(windows.row_tiles);
    p.score_pitch = static_cast<std::int32_t>(windows.pitch);
    p.step_tile = p.step_head = 0;
    p.step_b = p.sequences.batch;  // one item a thread block
    for (std::int64_t first = 0; first < windows.items; first += windows.items_of_window) {
        p.first_item = static_cast<std::int32_t>(first);
        const auto items = static_cast<int>(std::min(windows.items_of_window, windows.items - first));
        if (Status s = launch_early("route_kernel", kernel, dim3(static_cast<unsigned>(items)), Shape::threads,
                                    Shape::shared_bytes, stream, p, arguments.queries, arguments.high, arguments.low);
            !s.ok()) {
            return s;
        }
        if (Status s = launch_select_best(p, items, Shape::rows, stream); !s.ok()) return s;
    }
    return {};
}

/// As RouteShape of the longest lists.
template <int HeadDim, int Parts, Scoring scoring>
using ScoredShape = RouteShape<HeadDim, ScoreStore, item_rows_of(HeadDim) / route_group_rows,
                               item_rows_of(HeadDim) / route_group_rows, 2, Parts, scoring>;

template <typename T, int Parts, Scoring scoring>
Status launch_scored_widths(const Problem& problem, RouteArguments& arguments, int padded_head_dim,
                            cudaStream_t stream) {
    if (padded_head_dim == 64) {
        return launch_score_windows<T, ScoredShape<64, Parts, scoring>>(problem, arguments, stream);
    }
    if (padded_head_dim == 128) {
        return launch_score_windows<T, ScoredShape<128, Parts, scoring>>(problem, arguments, stream);
    }
    return launch_score_windows<T, ScoredShape<256, Parts, scoring>>(problem, arguments, stream);
}

template <typename T>
Status launch_scored_products(const Problem& problem, RouteArguments& arguments, int padded_head_dim, bool split,
                              cudaStream_t stream) {
    return split ? launch_scored_widths<T, 2, Scoring::products>(problem, arguments, padded_head_dim, stream)
                 : launch_scored_widths<T, 1, Scoring::products>(problem, arguments, padded_head_dim, stream);
}

template <typename T>
Status launch_scored_sub_blocks(const Problem& problem, RouteArguments& arguments, int padded_head_dim,
                                cudaStream_t stream) {
    return launch_scored_widths<T, 1, Scoring::best_of_group>(problem, arguments, padded_head_dim, stream);
}

/// limits.cc sees to it that head_dim is at most 128.
template <typename T>
Status launch_scored_ranges(const Problem& problem, RouteArguments& arguments, int padded_head_dim,
                            cudaStream_t stream) {
    if (padded_head_dim == 64) {
        return launch_score_windows<T, ScoredShape<64, 2, Scoring::ranges>>(problem, arguments, stream);
    }
    return launch_score_windows<T, ScoredShape<128, 2, Scoring::ranges>>(problem, arguments, stream);
}

}  // namespace mobalab::kernels::cuda
