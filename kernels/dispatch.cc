// The public functions of kernels.h: check the arguments once, for all backends, then call the backend's table.
#include "kernels/dispatch.h"

#include <fmt/format.h>

#include "kernels/check.h"

namespace mobalab::kernels {

const BackendTable* find_backend(Backend backend) {
    switch (backend) {
        case Backend::cpu:
            return &cpu_backend();
        case Backend::cpu_reference:
            return &cpu_reference_backend();
        case Backend::cuda:
            return &cuda_backend();
    }
    return nullptr;
}

bool offers(const BackendTable& table, Operation operation) {
    switch (operation) {
        case Operation::centroids:
            return table.compute_centroids != nullptr;
        case Operation::route:
            return table.route != nullptr;
        case Operation::attention_forward:
            return table.attention_forward != nullptr;
        case Operation::moba_forward:
            return table.moba_forward != nullptr;
        case Operation::attention_backward:
            return table.attention_backward != nullptr;
        case Operation::key_conv_backward:
            return table.key_conv_backward != nullptr;
        case Operation::key_conv_forward:
            return table.key_conv_forward != nullptr;
        case Operation::route_with_centroids:
            return table.route_with_centroids != nullptr;
        case Operation::key_conv_centroids:  // without its own entry the two operations run one after the other
            return table.key_conv_forward != nullptr && table.compute_centroids != nullptr;
        case Operation::append_centroids:
            return table.append_centroids != nullptr;
        case Operation::decode_route:
            return table.decode_route != nullptr;
        case Operation::decode_attention:
            return table.decode_attention != nullptr;
        case Operation::moba_decode:
            return table.append_centroids != nullptr && table.decode_route != nullptr &&
                   table.decode_attention != nullptr;
    }
    return false;
}

namespace {

Status not_offered(const BackendTable& table) {
    return {StatusCode::unsupported,
            fmt::format("backend {} does not offer this operation; nearest valid choice: cpu", table.name)};
}

}  // namespace

Status prepare(const BackendTable* table, bool offered, Operation operation, const Problem& problem,
               const Execution& execution, std::size_t& workspace) {
    if (table == nullptr) {
        return invalid(fmt::format("backend = {}: must be cpu, cpu_reference or cuda; nearest valid choice: cpu",
                                   static_cast<int>(execution.backend)));
    }
    if (Status s = check_problem(operation, problem, table->host_memory); !s.ok()) return s;
    if (Status s = table->available(); !s.ok()) return s;
    if (!offered) return not_offered(*table);
    if (Status s = table->limits(operation, problem); !s.ok()) return s;
    workspace = table->workspace_size(operation, problem);
    return check_execution(execution, workspace);
}

namespace {

/// The tensors of attention_forward and moba_forward; `routes`: the selection is written, not read.
Status check_forward(Arguments arguments, ConstTensor& q, ConstTensor& k, ConstTensor& v, Tensor& out, float* lse,
                     const std::int32_t* selection, bool routes) {
    return arguments.queries("q", q)
        .keys("k", k)
        .values("v", v)
        .selection(selection, routes)
        .outputs("out", out)
        .lse(lse, true)
        .status();
}

}  // namespace

std::string_view to_string(DataType dtype) {
    switch (dtype) {
        case DataType::fp32:
            return "fp32";
        case DataType::bf16:
            return "bf16";
        case DataType::fp16:
            return "fp16";
    }
    return "no DataType";
}

std::size_t size_of(DataType dtype) {
    return dtype == DataType::fp32 ? 4 : 2;
}

std::size_t workspace_size(Operation operation, const Problem& problem, Backend backend) {
    const BackendTable* table = find_backend(backend);
    return supported(operation, problem, backend).ok() ? table->workspace_size(operation, problem) : 0;
}

Status supported(Operation operation, const Problem& problem, Backend backend) {
    return guarded([&]() -> Status {
        const BackendTable* table = find_backend(backend);
        if (table == nullptr) {
            return invalid(fmt::format("backend = {}: must be cpu, cpu_reference or cuda", static_cast<int>(backend)));
        }
        if (Status s = check_problem(operation, problem, false); !s.ok()) return s;
        if (!offers(*table, operation)) return not_offered(*table);
        return table->limits(operation, problem);
    });
}

Status backend_available(Backend backend) {
    const BackendTable* table = find_backend(backend);
    if (table == nullptr) {
        return invalid(fmt::format("backend = {}: must be cpu, cpu_reference or cuda", static_cast<int>(backend)));
    }
    return table->available();
}

Status compute_centroids(const Problem& p, ConstTensor k, void* centroids, const Execution& execution) {
    return guarded([&]() -> Status {
        const BackendTable* table = find_backend(execution.backend);
        const bool offered = table != nullptr && table->compute_centroids != nullptr;
        std::size_t workspace = 0;
        if (Status s = prepare(table, offered, Operation::centroids, p, execution, workspace); !s.ok()) return s;
        Arguments arguments(p, execution, workspace);
        if (Status s = arguments.keys("k", k).centroids(centroids, true).status(); !s.ok()) return s;
        if (p.centroid_elements() == 0) return {};
        return table->compute_centroids(p, k, centroids, execution);
    });
}

Status route(const Problem& p, ConstTensor q, ConstTensor k, std::int32_t* selection, float* scores,
             const Execution& execution) {
    return guarded([&]() -> Status {
        const BackendTable* table = find_backend(execution.backend);
        const bool offered = table != nullptr && table->route != nullptr;
        std::size_t workspace = 0;
        if (Status s = prepare(table, offered, Operation::route, p, execution, workspace); !s.ok()) return s;
        Arguments arguments(p, execution, workspace);
        arguments.queries("q", q).keys("k", k).selection(selection, true);
        if (scores != nullptr) arguments.written("scores", scores, p.tokens_q() * p.heads_q * p.routed());
        if (Status s = arguments.status(); !s.ok()) return s;
        if (p.tokens_q() == 0 || p.routed() == 0) return {};
        return table->route(p, q, k, selection, scores, execution);
    });
}

Status route_with_centroids(const Problem& p, ConstTensor q, const void* centroids, std::int32_t* selection,
                            float* scores, const Execution& execution) {
    return guarded([&]() -> Status {
        const BackendTable* table = find_backend(execution.backend);
        const bool offered = table != nullptr && table->route_with_centroids != nullptr;
        std::size_t workspace = 0;
        if (Status s = prepare(table, offered, Operation::route_with_centroids, p, execution, workspace); !s.ok())
            return s;
        Arguments arguments(p, execution, workspace);
        arguments.queries("q", q).centroids(centroids, false).selection(selection, true);
        if (scores != nullptr) arguments.written("scores", scores, p.tokens_q() * p.heads_q * p.routed());
        if (Status s = arguments.status(); !s.ok()) return s;
        if (p.tokens_q() == 0 || p.routed() == 0) return {};
        return table->route_with_centroids(p, q, centroids, selection, scores, execution);
    });
}

Status attention_forward(const Problem& p, ConstTensor q, ConstTensor k, ConstTensor v, const std::int32_t* selection,
                         Tensor out, float* lse, const Execution& execution) {
    return guarded([&]() -> Status {
        const BackendTable* table = find_backend(execution.backend);
        const bool offered = table != nullptr && table->attention_forward != nullptr;
        std::size_t workspace = 0;
        if (Status s = prepare(table, offered, Operation::attention_forward, p, execution, workspace); !s.ok())
            return s;
        const Arguments arguments(p, execution, workspace);
        if (Status s = check_forward(arguments, q, k, v, out, lse, selection, false); !s.ok()) return s;
        if (p.tokens_q() == 0) return {};
        return table->attention_forward(p, q, k, v, selection, out, lse, execution);
    });
}

Status moba_forward(const Problem& p, ConstTensor q, ConstTensor k, ConstTensor v, Tensor out, float* lse,
                    std::int32_t* selection, const Execution& execution) {
    return guarded([&]() -> Status {
        const BackendTable* table = find_backend(execution.backend);
        const bool offered = table != nullptr && table->moba_forward != nullptr;
        std::size_t workspace = 0;
        if (Status s = prepare(table, offered, Operation::moba_forward, p, execution, workspace); !s.ok()) return s;
        const Arguments arguments(p, execution, workspace);
        if (Status s = check_forward(arguments, q, k, v, out, lse, selection, true); !s.ok()) return s;
        if (p.tokens_q() == 0) return {};
        return table->moba_forward(p, q, k, v, out, lse, selection, execution);
    });
}

Status attention_backward(const Problem& p, ConstTensor q, ConstTensor k, ConstTensor v, ConstTensor out,
                          ConstTensor d_out, const float* lse, const std::int32_t* selection, Tensor dq, Tensor dk,
                          Tensor dv, const Execution& execution) {
    return guarded([&]() -> Status {
        const BackendTable* table = find_backend(execution.backend);
        const bool offered = table != nullptr && table->attention_backward != nullptr;
        std::size_t workspace = 0;
        if (Status s = prepare(table, offered, Operation::attention_backward, p, execution, workspace); !s.ok())
            return s;
        Arguments arguments(p, execution, workspace);
        arguments.queries("q", q).keys("k", k).values("v", v).outputs("out", out).outputs("d_out", d_out);
        arguments.lse(lse, false).selection(selection, false).queries("dq", dq).keys("dk", dk).values("dv", dv);
        if (Status s = arguments.status(); !s.ok()) return s;
        if (p.tokens_k() == 0 && p.tokens_q() == 0) return {};
        return table->attention_backward(p, q, k, v, out, d_out, lse, selection, dq, dk, dv, execution);
    });
}

Status key_conv_forward(const Problem& p, ConstTensor k, const float* weight, int width, Tensor out,
                        const Execution& execution) {
    return guarded([&]() -> Status {
        const BackendTable* table = find_backend(execution.backend);
        const bool offered = table != nullptr && table->key_conv_forward != nullptr;
        std::size_t workspace = 0;
        if (Status s = prepare(table, offered, Operation::key_conv_forward, p, execution, workspace); !s.ok()) return s;
        Arguments arguments(p, execution, workspace);
        if (Status s = arguments.weight(weight, width).keys("k", k).keys("out", out).status(); !s.ok()) return s;
        if (p.tokens_k() == 0) return {};
        return table->key_conv_forward(p, k, weight, width, out, execution);
    });
}

Status key_conv_centroids(const Problem& p, ConstTensor k, const float* weight, int width, Tensor out, void* centroids,
                          const Execution& execution) {
    return guarded([&]() -> Status {
        const BackendTable* table = find_backend(execution.backend);
        const bool fused = table != nullptr && table->key_conv_centroids != nullptr;
        const bool apart =
            table != nullptr && table->key_conv_forward != nullptr && table->compute_centroids != nullptr;
        std::size_t workspace = 0;
        if (Status s = prepare(table, fused || apart, Operation::key_conv_centroids, p, execution, workspace); !s.ok())
            return s;
        Arguments arguments(p, execution, workspace);
        arguments.weight(weight, width).keys("k", k).keys("out", out).centroids(centroids, true);
        if (Status s = arguments.status(); !s.ok()) return s;
        if (p.tokens_k() == 0) return {};
        const bool keeps = p.centroid_elements() > 0;
        if (fused && keeps) return table->key_conv_centroids(p, k, weight, width, out, centroids, execution);
        if (Status s = table->key_conv_forward(p, k, weight, width, out, execution); !s.ok() || !keeps) return s;
        return table->compute_centroids(p, as_const(out), centroids, execution);
    });
}

Status key_conv_backward(const Problem& p, ConstTensor k, const float* weight, int width, ConstTensor d_out, Tensor dk,
                         float* d_weight, const Execution& execution) {
    return guarded([&]() -> Status {
        const BackendTable* table = find_backend(execution.backend);
        const bool offered = table != nullptr && table->key_conv_backward != nullptr;
        std::size_t workspace = 0;
        if (Status s = prepare(table, offered, Operation::key_conv_backward, p, execution, workspace); !s.ok())
            return s;
        Arguments arguments(p, execution, workspace);
        arguments.weight(weight, width).keys("k", k).keys("d_out", d_out).keys("dk", dk).d_weight(d_weight, width);
        if (Status s = arguments.status(); !s.ok()) return s;
        return table->key_conv_backward(p, k, weight, width, d_out, dk, d_weight, execution);
    });
}

}  // namespace mobalab::kernels
