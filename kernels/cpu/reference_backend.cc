// Backend::cpu_reference: the double-precision reference behind the common API.
#include <algorithm>

#include "kernels/backend.h"
#include "kernels/cpu/cached_keys.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/reference.h"
#include "kernels/cpu/reference_rows.h"
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

/// Tokens of an entry of the batch of a tensor.
std::int64_t query_tokens(const Problem& p) {
    return p.cu_seqlens_q != nullptr ? p.total_q : p.seqlen_q;
}
std::int64_t key_tokens(const Problem& p) {
    return p.cu_seqlens_k != nullptr ? p.total_k : p.seqlen_k;
}

Rows queries(const Problem& p, ConstTensor tensor) {
    return rows_of(p, tensor, p.heads_q, query_tokens(p));
}
Rows keys(const Problem& p, ConstTensor tensor) {
    return rows_of(p, tensor, p.heads_k, key_tokens(p));
}

/// Writes contiguous doubles [batch, tokens, heads, head_dim] into a tensor of dtype.
void write_rows(const std::vector<double>& values, DataType dtype, std::int64_t d, std::int64_t tokens,
                std::int64_t heads, Tensor out) {
    const std::int64_t rows = static_cast<std::int64_t>(values.size()) / d;
    std::vector<float> row(static_cast<std::size_t>(d));
    for (std::int64_t i = 0; i < rows; ++i) {
        std::transform(values.data() + i * d, values.data() + (i + 1) * d, row.begin(),
                       [](double value) { return static_cast<float>(value); });
        const std::int64_t token = i / heads;
        const Tensor sequence = cpu::from_token(out, dtype, token / tokens, token % tokens);
        cpu::write_row(cpu::row_address(sequence, dtype, 0, i % heads), dtype, d, row.data());
    }
}

void write_queries(const Problem& p, const std::vector<double>& values, Tensor out) {
    write_rows(values, p.dtype, p.head_dim, query_tokens(p), p.heads_q, out);
}
void write_keys(const Problem& p, const std::vector<double>& values, Tensor out) {
    write_rows(values, p.dtype, p.head_dim, key_tokens(p), p.heads_k, out);
}

/// The problem as tensors of values see it.
Problem of_values(Problem p) {
    p.head_dim = p.value_dim();
    return p;
}

void write_floats(const std::vector<double>& values, float* out) {
    std::transform(values.begin(), values.end(), out, [](double value) { return static_cast<float>(value); });
}

Problem as_centroids(Problem p) {
    p.dtype = p.centroid_dtype();
    return p;
}

Status write_routing(const reference::Routing& routing, std::int32_t* selection, float* scores) {
    std::copy(routing.selection.begin(), routing.selection.end(), selection);
    if (scores != nullptr) write_floats(routing.scores, scores);
    return {};
}

Status do_compute_centroids(const Problem& p, ConstTensor k, void* centroids, const Execution& execution) {
    const std::vector<double> summaries = reference::centroids(p, keys(p, k), execution.threads);
    const std::int64_t rows = static_cast<std::int64_t>(summaries.size()) / (p.heads_k * p.head_dim);
    const Tensor out = {centroids, 0, p.heads_k * p.head_dim, p.head_dim};
    write_rows(summaries, p.centroid_dtype(), p.head_dim, rows, p.heads_k, out);
    return {};
}

Status do_route(const Problem& p, ConstTensor q, ConstTensor k, std::int32_t* selection, float* scores,
                const Execution& execution) {
    const std::vector<double> summaries = reference::centroids(p, keys(p, k), execution.threads);
    return write_routing(reference::route(p, queries(p, q), summaries, {execution.threads, {}}), selection, scores);
}

/// Summaries as compute_centroids() writes them.
std::vector<double> read_summaries(const Problem& p, const void* centroids) {
    std::vector<double> summaries(static_cast<std::size_t>(p.centroid_elements()));
    const std::int64_t count = p.centroid_elements() / (p.heads_k * p.head_dim);
    const Rows rows = rows_of(as_centroids(p), ConstTensor{centroids}, p.heads_k, count);
    for (std::int64_t i = 0; i < count * p.heads_k; ++i) {
        rows(i / p.heads_k, i % p.heads_k, summaries.data() + i * p.head_dim);
    }
    return summaries;
}

Status do_route_with_centroids(const Problem& p, ConstTensor q, const void* centroids, std::int32_t* selection,
                               float* scores, const Execution& execution) {
    const std::vector<double> summaries = read_summaries(p, centroids);
    return write_routing(reference::route(p, queries(p, q), summaries, {execution.threads, {}}), selection, scores);
}

Status do_attention_forward(const Problem& p, ConstTensor q, ConstTensor k, ConstTensor v,
                            const std::int32_t* selection, Tensor out, float* lse, const Execution& execution) {
    const reference::Attention result = reference::attention_forward(
        p, queries(p, q), keys(p, k), keys(of_values(p), v), selection, {execution.threads, {}});
    write_queries(of_values(p), result.out, out);
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
    const reference::AttentionGradients result =
        reference::attention_backward(p, queries(p, q), keys(p, k), keys(of_values(p), v), queries(of_values(p), d_out),
                                      selection, {execution.threads, {}});
    write_queries(p, result.dq, dq);
    write_keys(p, result.dk, dk);
    write_keys(of_values(p), result.dv, dv);
    return {};
}

std::vector<double> weights_of(const Problem& p, const float* weight, int width) {
    return {weight, weight + p.heads_k * p.head_dim * width};
}

Status do_key_conv_forward(const Problem& p, ConstTensor k, const float* weight, int width, Tensor out,
                           const Execution& execution) {
    const std::vector<double> result =
        reference::key_conv_forward(p, keys(p, k), weights_of(p, weight, width), width, execution.threads);
    write_keys(p, result, out);
    return {};
}

Status do_key_conv_backward(const Problem& p, ConstTensor k, const float* weight, int width, ConstTensor d_out,
                            Tensor dk, float* d_weight, const Execution& execution) {
    const reference::ConvGradients result = reference::key_conv_backward(p, keys(p, k), weights_of(p, weight, width),
                                                                         width, keys(p, d_out), execution.threads);
    write_keys(p, result.dk, dk);
    write_floats(result.d_weight, d_weight);
    return {};
}

/// Keys or values of a cache as those of sequences of seqlen_k tokens.
Rows cached(Problem p, const Cache& cache, ConstTensor tensor) {
    return [p, rows = cpu::CachedKeys(p, cache, tensor)](std::int64_t token, std::int64_t head, double* row) {
        std::vector<float> values(static_cast<std::size_t>(p.head_dim));
        cpu::read_row(rows.row(token / p.seqlen_k, token % p.seqlen_k, head), p.dtype, p.head_dim, values.data());
        std::copy(values.begin(), values.end(), row);
    };
}

Status do_append_centroids(const Problem& p, const Cache& cache, ConstTensor k, std::int64_t appended, void* centroids,
                           const Execution& execution) {
    return cpu::append_by_computing(do_compute_centroids, p, cache, k, appended, centroids, execution);
}

Status do_decode_route(const Problem& p, const Cache& cache, ConstTensor q, const void* centroids,
                       std::int32_t* selection, float* scores, const Execution& execution) {
    const std::vector<cpu::Sequence> sequences = cpu::cached_sequences_of(p, cache);
    const std::vector<double> summaries = read_summaries(p, centroids);
    return write_routing(reference::route_sequences(p, sequences, queries(p, q), summaries, {execution.threads, {}}),
                         selection, scores);
}

Status do_decode_attention(const Problem& p, const Cache& cache, ConstTensor q, ConstTensor k, ConstTensor v,
                           const std::int32_t* selection, Tensor out, float* lse, const Execution& execution) {
    const reference::Attention result =
        reference::attend_sequences(p, cpu::cached_sequences_of(p, cache), queries(p, q), cached(p, cache, k),
                                    cached(of_values(p), cache, v), selection, {execution.threads, {}});
    write_queries(of_values(p), result.out, out);
    write_floats(result.lse, lse);
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
                                           .key_conv_backward = do_key_conv_backward,
                                           .append_centroids = do_append_centroids,
                                           .decode_route = do_decode_route,
                                           .decode_attention = do_decode_attention};
    return table;
}

}  // namespace mobalab::kernels
