#include "kernels/cuda/host/path_table.h"
#include "kernels/cuda/portable/attention.h"
#include "kernels/cuda/portable/routing/route.h"

namespace mobalab::kernels::cuda {

const PathTable& portable_path_table() {
    static constexpr PathTable table = {.route = portable::launch_route,
                                        .attention_forward_workspace = portable::attention_forward_workspace,
                                        .attention_forward = portable::enqueue_attention_forward,
                                        .attention_backward_workspace = portable::attention_backward_workspace,
                                        .attention_backward = portable::enqueue_attention_backward};
    return table;
}

}  // namespace mobalab::kernels::cuda
