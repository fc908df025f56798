#include "kernels/cuda/host/path_table.h"
#include "kernels/cuda/portable/routing/route.h"

namespace mobalab::kernels::cuda {

const PathTable& portable_path_table() {
    static constexpr PathTable table = {.route = portable::launch_route,
                                        .attention_forward_workspace = nullptr,
                                        .attention_forward = nullptr,
                                        .attention_backward_workspace = nullptr,
                                        .attention_backward = nullptr,
                                        .widest_head_dim_of_ranges = 256};
    return table;
}

}  // namespace mobalab::kernels::cuda
