#include "kernels/cuda/backward/attention_backward.h"
#include "kernels/cuda/forward/attention.h"
#include "kernels/cuda/host/path_table.h"
#include "kernels/cuda/routing/route.h"

namespace mobalab::kernels::cuda {

const PathTable* hopper_path_table() {
    static constexpr PathTable table = {.route = launch_route,
                                        .attention_forward_workspace = attention_forward_workspace,
                                        .attention_forward = enqueue_attention_forward,
                                        .attention_backward_workspace = attention_backward_workspace,
                                        .attention_backward = enqueue_attention_backward,
                                        // Two sets of queries in registers.
                                        .widest_head_dim_of_ranges = 128};
    return &table;
}

}  // namespace mobalab::kernels::cuda
