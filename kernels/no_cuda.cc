// Stands in for cuda/ in a build without CUDA: the backend exists, and says why it cannot run.
#include "kernels/backend.h"

namespace mobalab::kernels {
namespace {

Status built_without_cuda() {
    return {StatusCode::unsupported_device,
            "backend cuda: this program was built without CUDA; nearest valid choice: cpu, or build with nvcc on PATH"};
}

Status no_limits(Operation, const Problem&) {
    return {};
}
std::size_t no_workspace(Operation, const Problem&) {
    return 0;
}

}  // namespace

const BackendTable& cuda_backend() {
    static constexpr BackendTable table = {.name = "cuda",
                                           .host_memory = false,
                                           .available = built_without_cuda,
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
