#include "kernels/cuda/portable/routing/route_launch.cuh"
#include "kernels/cuda/routing/score_windows.h"
#include "kernels/cuda/routing/select_best.h"

namespace mobalab::kernels::cuda::portable {
namespace {

template <int HeadDim>
using ScoredShape = RouteShape<HeadDim, ScoreStore, 8, 1>;

/// Scores of a window, then its selection, window after window in the same memory.
template <typename Shape>
Status launch_windows(const Problem& problem, RouteParams& params, cudaStream_t stream) {
    static_assert(Shape::rows == item_rows_of(64));
    const ScoreWindows windows(problem, Shape::rows);
    cuda::RouteParams& p = params.of_path;
    p.row_tiles = static_cast<std::int32_t>(windows.row_tiles);
    p.score_pitch = static_cast<std::int32_t>(windows.pitch);
    p.step_tile = p.step_head = 0;
    p.step_b = p.sequences.batch;  // one item a thread block
    for (std::int64_t first = 0; first < windows.items; first += windows.items_of_window) {
        p.first_item = static_cast<std::int32_t>(first);
        const auto items = static_cast<int>(std::min(windows.items_of_window, windows.items - first));
        if (Status s = launch_route_kernel<Shape>(params, items, stream); !s.ok()) return s;
        if (Status s = launch_select_best(p, items, Shape::rows, stream); !s.ok()) return s;
    }
    return {};
}

}  // namespace

Status launch_route_scored(const Problem& problem, RouteParams& params, int padded, cudaStream_t stream) {
    if (padded == 0) return launch_windows<ScoredShape<0>>(problem, params, stream);
    if (padded <= 128) return launch_windows<ScoredShape<128>>(problem, params, stream);
    return launch_windows<ScoredShape<256>>(problem, params, stream);
}

}  // namespace mobalab::kernels::cuda::portable
