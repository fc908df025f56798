// Backend::cpu_reference: the double-precision reference behind the common API.
#include <algorithm>

#include "kernels/backend.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/reference.h"
#include "kernels/cpu/sequences.h"

namespace mobalab::kernels {
namespace {

using reference::Rows;
using reference::rows_of;

Status available() {
    return {};
}
Status limits(Operation, const Problem&) {
    return {};
}
std::size_t no_workspace(Operation, const Problem&) {
    return 0;
}

Rows queries(const Problem& p, ConstTensor tensor) {
    return rows_of(p, tensor, p.heads_q);
}
Rows keys(const Problem& p, ConstTensor tensor) {
    return rows_of(p, tensor, p.heads_k);
}

/// Writes contiguous doubles [tokens, heads, head_dim] into a tensor of the problem's dtype.
void write_tensor(const Problem& p, const std::vector<double>& values, std::int64_t heads, Tensor out) {
    const std::int64_t d = p.head_dim;
    const std::int64_t rows = static_cast<std::int64_t>(values.size()) / d;
    std::vector<float> row(static_cast<std::size_t>(d));
    for (std::int64_t i = 0; i < rows; ++i) {
        std::transform(values.data() + i * d, values.data() + (i + 1) * d, row.begin(),
                       [](double value) { return static_cast<float>(value); });
        cpu::write_row(cpu::row_address(out, p.dtype, i / heads, i % heads), p.dtype, d, row.data());
    }
}

void write_floats(const std::vector<double>& values, float* out) {
    std::transform(values.begin(), values.end(), out, [](double value) { return static_cast<float>(value); });
}

DataType centroid_type(const Problem& p) {
    return p.centroids == Centroids::fp32 ? DataType::fp32 : p.dtype;
}

Problem as_centroids(Problem p) {
    p.dtype = centroid_type(p);
    return p;
}

Status write_routing(const reference::Routing& routing, std::int32_t* selection, float* scores) {
    std::copy(routing.selection.begin(), routing.selection.end(), selection);
    if (scores != nullptr) write_floats(routing.scores, scores);
    return {};
}

Status do_compute_centroids(const Problem& p, ConstTensor k, void* centroids, const Execution& execution) {
    const std::vector<double> means = reference::centroids(p, keys(p, k), execution.threads);
    write_tensor(as_centroids(p), means, p.heads_k, {centroids, p.heads_k * p.head_dim, p.head_dim});
    return {};
}

Status do_route(const Problem& p, ConstTensor q, ConstTensor k, std::int32_t* selection, float* scores,
                const Execution& execution) {
    const std::vector<double> means = reference::centroids(p, keys(p, k), execution.threads);
    return write_routing(reference::route(p, queries(p, q), means, {execution.threads, {}}), selection, scores);
}

Status do_route_with_centroids(const Problem& p, ConstTensor q, const void* centroids, std::int32_t* selection,
                               float* scores, const Execution& execution) {
    const Rows rows = rows_of(as_centroids(p), ConstTensor{centroids}, p.heads_k);
    std::vector<double> means(static_cast<std::size_t>(p.blocks() * p.heads_k * p.head_dim));
    for (std::int64_t i = 0; i < p.blocks() * p.heads_k; ++i) {
        rows(i / p.heads_k, i % p.heads_k, means.data() + i * p.head_dim);
    }
    return write_routing(reference::route(p, queries(p, q), means, {execution.threads, {}}), selection, scores);
}

Status do_attention_forward(const Problem& p, ConstTensor q, ConstTensor k, ConstTensor v,
                            const std::int32_t* selection, Tensor out, float* lse, const Execution& execution) {
    if (Status s = cpu::check_selection_entries(p, selection); !s.ok()) return s;
    const reference::Attention result =
        reference::attention_forward(p, queries(p, q), keys(p, k), keys(p, v), selection, {execution.threads, {}});
    write_tensor(p, result.out, p.heads_q, out);
    write_floats(result.lse, lse);
    return {};
}

Status do_moba_forward(const Problem& p, ConstTensor q, ConstTensor k, ConstTensor v, Tensor out, float* lse,
                       std::int32_t* selection, const Execution& execution) {
    if (Status s = do_route(p, q, k, selection, nullptr, execution); !s.ok()) return s;
    return do_attention_forward(p, q, k, v, selection, out, lse, execution);
}

/// `out` and `lse` are not read: the reference recomputes the forward pass in double.
Status do_attention_backward(const Problem& p, ConstTensor q, ConstTensor k, ConstTensor v, ConstTensor,
                             ConstTensor d_out, const float*, const std::int32_t* selection, Tensor dq, Tensor dk,
                             Tensor dv, const Execution& execution) {
    if (Status s = cpu::check_selection_entries(p, selection); !s.ok()) return s;
    const reference::AttentionGradients result = reference::attention_backward(
        p, queries(p, q), keys(p, k), keys(p, v), queries(p, d_out), selection, {execution.threads, {}});
    write_tensor(p, result.dq, p.heads_q, dq);
    write_tensor(p, result.dk, p.heads_k, dk);
    write_tensor(p, result.dv, p.heads_k, dv);
    return {};
}

std::vector<double> weights_of(const Problem& p, const float* weight, int width) {
    return {weight, weight + p.heads_k * p.head_dim * width};
}

Status do_key_conv_forward(const Problem& p, ConstTensor k, const float* weight, int width, Tensor out,
                           const Execution& execution) {
    const std::vector<double> result =
        reference::key_conv_forward(p, keys(p, k), weights_of(p, weight, width), width, execution.threads);
    write_tensor(p, result, p.heads_k, out);
    return {};
}

Status do_key_conv_backward(const Problem& p, ConstTensor k, const float* weight, int width, ConstTensor d_out,
                            Tensor dk, float* d_weight, const Execution& execution) {
    const reference::ConvGradients result = reference::key_conv_backward(p, keys(p, k), weights_of(p, weight, width),
                                                                         width, keys(p, d_out), execution.threads);
    write_tensor(p, result.dk, p.heads_k, dk);
    write_floats(result.d_weight, d_weight);
    return {};
}

}  // namespace

const BackendTable& cpu_reference_backend() {
    static constexpr BackendTable table = {.name = "cpu_reference",
                                           .host_memory = true,
                                           .available = available,
                                           .limits = limits,
                                           .workspace_size = no_workspace,
                                           .compute_centroids = do_compute_centroids,
                                           .route = do_route,
                                           .route_with_centroids = do_route_with_centroids,
                                           .attention_forward = do_attention_forward,
                                           .moba_forward = do_moba_forward,
                                           .attention_backward = do_attention_backward,
                                           .key_conv_forward = do_key_conv_forward,
                                           .key_conv_backward = do_key_conv_backward};
    return table;
}

}  // namespace mobalab::kernels
