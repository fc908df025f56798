#include "kernels/backend.h"

namespace mobalab::kernels {
namespace {

Status always_available() {
    return {};
}
Status no_limits(Operation, const Problem&) {
    return {};
}
std::size_t no_workspace(Operation, const Problem&) {
    return 0;
}

}  // namespace

const BackendTable& cpu_backend() {
    static constexpr BackendTable table = {.name = "cpu",
                                           .host_memory = true,
                                           .available = always_available,
                                           .limits = no_limits,
                                           .workspace_size = no_workspace,
                                           .compute_centroids = nullptr,
                                           .route = nullptr,
                                           .route_with_centroids = nullptr,
                                           .attention_forward = nullptr,
                                           .moba_forward = nullptr,
                                           .attention_backward = nullptr,
                                           .key_conv_forward = nullptr,
                                           .key_conv_backward = nullptr};
    return table;
}

}  // namespace mobalab::kernels
