// The public functions of kernels.h: check the arguments once, for all backends, then call the backend's table.
#include <fmt/format.h>

#include <exception>
#include <new>

#include "kernels/backend.h"
#include "kernels/check.h"

namespace mobalab::kernels {
namespace {

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
    }
    return false;
}

Status not_offered(const BackendTable& table) {
    return {StatusCode::unsupported,
            fmt::format("backend {} does not offer this operation; nearest valid choice: cpu", table.name)};
}

/// The checks that every operation shares; `offered` is whether the table has the operation.
Status prepare(const BackendTable* table, bool offered, Operation operation, const Problem& problem,
               const Execution& execution) {
    if (table == nullptr) {
        return invalid(fmt::format("backend = {}: must be cpu, cpu_reference or cuda; nearest valid choice: cpu",
                                   static_cast<int>(execution.backend)));
    }
    if (Status s = check_problem(operation, problem, table->host_memory); !s.ok()) return s;
    if (Status s = table->available(); !s.ok()) return s;
    if (!offered) return not_offered(*table);
    if (Status s = table->limits(operation, problem); !s.ok()) return s;
    return check_execution(execution, table->workspace_size(operation, problem));
}

/// Backends may throw (memory, threads); the API does not.
template <typename Call>
Status guarded(const Call& call) {
    try {
        return call();
    } catch (const std::bad_alloc&) {
        return {StatusCode::device_error, "out of host memory; try a smaller batch or fewer heads per call"};
    } catch (const std::exception& error) {
        return {StatusCode::device_error, error.what()};
    }
}

template <typename Pointer>
Status resolve_q(const char* name, const Problem& p, BasicTensor<Pointer>& tensor) {
    return resolve_tensor(name, p.tokens_q(), p.heads_q, p.head_dim, tensor);
}

template <typename Pointer>
Status resolve_k(const char* name, const Problem& p, BasicTensor<Pointer>& tensor) {
    return resolve_tensor(name, p.tokens_k(), p.heads_k, p.head_dim, tensor);
}

Status check_selection(const Problem& p, const std::int32_t* selection) {
    return check_pointer("selection", selection, p.tokens_q() * p.heads_q * p.routed());
}

Status check_lse(const Problem& p, const float* lse) {
    return check_pointer("lse", lse, p.tokens_q() * p.heads_q);
}

/// The tensors of attention_forward and moba_forward, with their strides filled in.
Status check_forward(const Problem& p, ConstTensor& q, ConstTensor& k, ConstTensor& v, Tensor& out, const float* lse,
                     const std::int32_t* selection) {
    if (Status s = resolve_q("q", p, q); !s.ok()) return s;
    if (Status s = resolve_k("k", p, k); !s.ok()) return s;
    if (Status s = resolve_k("v", p, v); !s.ok()) return s;
    if (Status s = resolve_q("out", p, out); !s.ok()) return s;
    if (Status s = check_selection(p, selection); !s.ok()) return s;
    return check_lse(p, lse);
}

Status check_conv(const Problem& p, const float* weight, int width) {
    if (Status s = check_conv_width(width); !s.ok()) return s;
    return check_pointer("weight", weight, p.heads_k * p.head_dim * width);
}

}  // namespace

std::size_t size_of(DataType dtype) {
    return dtype == DataType::fp32 ? 4 : 2;
}

std::size_t workspace_size(Operation operation, const Problem& problem, Backend backend) {
    const BackendTable* table = find_backend(backend);
    if (table == nullptr || !check_problem(operation, problem, false).ok()) return 0;
    return table->workspace_size(operation, problem);
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
        if (Status s = prepare(table, offered, Operation::centroids, p, execution); !s.ok()) return s;
        if (Status s = resolve_k("k", p, k); !s.ok()) return s;
        if (p.blocks() == 0) return {};
        if (Status s = check_pointer("centroids", centroids, p.blocks() * p.heads_k * p.head_dim); !s.ok()) return s;
        return table->compute_centroids(p, k, centroids, execution);
    });
}

Status route(const Problem& p, ConstTensor q, ConstTensor k, std::int32_t* selection, float* scores,
             const Execution& execution) {
    return guarded([&]() -> Status {
        const BackendTable* table = find_backend(execution.backend);
        const bool offered = table != nullptr && table->route != nullptr;
        if (Status s = prepare(table, offered, Operation::route, p, execution); !s.ok()) return s;
        if (Status s = resolve_q("q", p, q); !s.ok()) return s;
        if (Status s = resolve_k("k", p, k); !s.ok()) return s;
        if (Status s = check_selection(p, selection); !s.ok()) return s;
        if (p.tokens_q() == 0 || p.routed() == 0) return {};
        return table->route(p, q, k, selection, scores, execution);
    });
}

Status route_with_centroids(const Problem& p, ConstTensor q, const void* centroids, std::int32_t* selection,
                            float* scores, const Execution& execution) {
    return guarded([&]() -> Status {
        const BackendTable* table = find_backend(execution.backend);
        const bool offered = table != nullptr && table->route_with_centroids != nullptr;
        if (Status s = prepare(table, offered, Operation::route_with_centroids, p, execution); !s.ok()) return s;
        if (Status s = resolve_q("q", p, q); !s.ok()) return s;
        if (Status s = check_pointer("centroids", centroids, p.blocks() * p.heads_k * p.head_dim); !s.ok()) return s;
        if (Status s = check_selection(p, selection); !s.ok()) return s;
        if (p.tokens_q() == 0 || p.routed() == 0) return {};
        return table->route_with_centroids(p, q, centroids, selection, scores, execution);
    });
}

Status attention_forward(const Problem& p, ConstTensor q, ConstTensor k, ConstTensor v, const std::int32_t* selection,
                         Tensor out, float* lse, const Execution& execution) {
    return guarded([&]() -> Status {
        const BackendTable* table = find_backend(execution.backend);
        const bool offered = table != nullptr && table->attention_forward != nullptr;
        if (Status s = prepare(table, offered, Operation::attention_forward, p, execution); !s.ok()) return s;
        if (Status s = check_forward(p, q, k, v, out, lse, selection); !s.ok()) return s;
        if (p.tokens_q() == 0) return {};
        return table->attention_forward(p, q, k, v, selection, out, lse, execution);
    });
}

Status moba_forward(const Problem& p, ConstTensor q, ConstTensor k, ConstTensor v, Tensor out, float* lse,
                    std::int32_t* selection, const Execution& execution) {
    return guarded([&]() -> Status {
        const BackendTable* table = find_backend(execution.backend);
        const bool offered = table != nullptr && table->moba_forward != nullptr;
        if (Status s = prepare(table, offered, Operation::moba_forward, p, execution); !s.ok()) return s;
        if (Status s = check_forward(p, q, k, v, out, lse, selection); !s.ok()) return s;
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
        if (Status s = prepare(table, offered, Operation::attention_backward, p, execution); !s.ok()) return s;
        if (Status s = resolve_q("q", p, q); !s.ok()) return s;
        if (Status s = resolve_k("k", p, k); !s.ok()) return s;
        if (Status s = resolve_k("v", p, v); !s.ok()) return s;
        if (Status s = resolve_q("out", p, out); !s.ok()) return s;
        if (Status s = resolve_q("d_out", p, d_out); !s.ok()) return s;
        if (Status s = check_lse(p, lse); !s.ok()) return s;
        if (Status s = check_selection(p, selection); !s.ok()) return s;
        if (Status s = resolve_q("dq", p, dq); !s.ok()) return s;
        if (Status s = resolve_k("dk", p, dk); !s.ok()) return s;
        if (Status s = resolve_k("dv", p, dv); !s.ok()) return s;
        if (p.tokens_k() == 0) return {};
        return table->attention_backward(p, q, k, v, out, d_out, lse, selection, dq, dk, dv, execution);
    });
}

Status key_conv_forward(const Problem& p, ConstTensor k, const float* weight, int width, Tensor out,
                        const Execution& execution) {
    return guarded([&]() -> Status {
        const BackendTable* table = find_backend(execution.backend);
        const bool offered = table != nullptr && table->key_conv_forward != nullptr;
        if (Status s = prepare(table, offered, Operation::key_conv_forward, p, execution); !s.ok()) return s;
        if (Status s = check_conv(p, weight, width); !s.ok()) return s;
        if (Status s = resolve_k("k", p, k); !s.ok()) return s;
        if (Status s = resolve_k("out", p, out); !s.ok()) return s;
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
        if (Status s = prepare(table, fused || apart, Operation::key_conv_centroids, p, execution); !s.ok()) return s;
        if (Status s = check_conv(p, weight, width); !s.ok()) return s;
        if (Status s = resolve_k("k", p, k); !s.ok()) return s;
        if (Status s = resolve_k("out", p, out); !s.ok()) return s;
        if (Status s = check_pointer("centroids", centroids, p.blocks() * p.heads_k * p.head_dim); !s.ok()) return s;
        if (p.tokens_k() == 0) return {};
        if (fused) return table->key_conv_centroids(p, k, weight, width, out, centroids, execution);
        if (Status s = table->key_conv_forward(p, k, weight, width, out, execution); !s.ok()) return s;
        return table->compute_centroids(p, {out.data, out.stride_token, out.stride_head}, centroids, execution);
    });
}

Status key_conv_backward(const Problem& p, ConstTensor k, const float* weight, int width, ConstTensor d_out, Tensor dk,
                         float* d_weight, const Execution& execution) {
    return guarded([&]() -> Status {
        const BackendTable* table = find_backend(execution.backend);
        const bool offered = table != nullptr && table->key_conv_backward != nullptr;
        if (Status s = prepare(table, offered, Operation::key_conv_backward, p, execution); !s.ok()) return s;
        if (Status s = check_conv(p, weight, width); !s.ok()) return s;
        if (Status s = resolve_k("k", p, k); !s.ok()) return s;
        if (Status s = resolve_k("d_out", p, d_out); !s.ok()) return s;
        if (Status s = resolve_k("dk", p, dk); !s.ok()) return s;
        if (Status s = check_pointer("d_weight", d_weight, p.heads_k * p.head_dim * width); !s.ok()) return s;
        return table->key_conv_backward(p, k, weight, width, d_out, dk, d_weight, execution);
    });
}

}  // namespace mobalab::kernels
