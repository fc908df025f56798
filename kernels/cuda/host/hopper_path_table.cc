#include "kernels/cuda/backward/attention_backward.h"
#include "kernels/cuda/forward/attention.h"
#include "kernels/cuda/host/path_table.h"
#include "kernels/cuda/host/score_path.h"
#include "kernels/cuda/portable/routing/route.h"
#include "kernels/cuda/routing/route.h"

namespace mobalab::kernels::cuda {
namespace {

/// Both maps of a query are in the registers of a warpgroup, which hold no wider ones. The portable kernel makes them
/// of a fragment at a time.
constexpr std::int64_t widest_head_dim_of_ranges = 128;

Status route(const Problem& problem, ConstTensor q, const void* high, const void* low, const std::int32_t* block_base,
             float* stored, std::int32_t* selection, float* scores, cudaStream_t stream) {
    const bool wide = problem.head_dim > widest_head_dim_of_ranges;
    const auto launch = wide && score_path(problem.scorer) == ScorePath::ranges ? portable::launch_route : launch_route;
    return launch(problem, q, high, low, block_base, stored, selection, scores, stream);
}

}  // namespace

const PathTable* hopper_path_table() {
    static constexpr PathTable table = {.route = route,
                                        .attention_forward_workspace = attention_forward_workspace,
                                        .attention_forward = enqueue_attention_forward,
                                        .attention_backward_workspace = attention_backward_workspace,
                                        .attention_backward = enqueue_attention_backward};
    return &table;
}

}  // namespace mobalab::kernels::cuda
