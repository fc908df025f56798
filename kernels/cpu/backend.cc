// Backend::cpu: the fast fp32 path on any number of threads.
#include "kernels/backend.h"

#include "kernels/cpu/operations.h"

namespace mobalab::kernels {
namespace {

Status available() {
    return {};
}
Status limits(Operation, const Problem&) {
    return {};
}
std::size_t no_workspace(Operation, const Problem&) {
    return 0;
}

Status route_and_attend(const Problem& p, ConstTensor q, ConstTensor k, ConstTensor v, Tensor out, float* lse,
                        std::int32_t* selection, const Execution& execution) {
    if (p.routed() > 0) {
        if (Status s = cpu::route(p, q, k, selection, nullptr, execution); !s.ok()) return s;
    }
    return cpu::attention_forward(p, q, k, v, selection, out, lse, execution);
}

}  // namespace

const BackendTable& cpu_backend() {
    static constexpr BackendTable table = {.name = "cpu",
                                           .host_memory = true,
                                           .available = available,
                                           .limits = limits,
                                           .workspace_size = no_workspace,
                                           .compute_centroids = cpu::compute_centroids,
                                           .route = cpu::route,
                                           .route_with_centroids = cpu::route_with_centroids,
                                           .attention_forward = cpu::attention_forward,
                                           .moba_forward = route_and_attend,
                                           .attention_backward = cpu::attention_backward,
                                           .key_conv_forward = cpu::key_conv_forward,
                                           .key_conv_backward = cpu::key_conv_backward,
                                           .append_centroids = cpu::append_centroids,
                                           .decode_route = cpu::decode_route,
                                           .decode_attention = cpu::decode_attention};
    return table;
}

}  // namespace mobalab::kernels
