// The table of the CUDA backend: sizes and divides the workspace, then enqueues kernels. Nothing here waits for the
// device.
#include "kernels/backend.h"

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/backward/attention_backward.h"
#include "kernels/cuda/decode/append.h"
#include "kernels/cuda/decode/attend.h"
#include "kernels/cuda/decode/score.h"
#include "kernels/cuda/decode/select.h"
#include "kernels/cuda/forward/forward_choice.h"
#include "kernels/cuda/host/limits.h"
#include "kernels/cuda/host/path.h"
#include "kernels/cuda/host/path_table.h"
#include "kernels/cuda/host/workspace.h"
#include "kernels/cuda/pooling/centred.h"
#include "kernels/cuda/pooling/centroid.h"
#include "kernels/cuda/pooling/key_conv.h"
#include "kernels/cuda/pooling/key_conv_backward.h"
#include "kernels/cuda/pooling/summaries.h"
#include "kernels/cuda/routing/score_windows.h"

namespace mobalab::kernels {
namespace {

using namespace cuda;

/// From a block's first part to its second.
std::int64_t part_stride(const Problem& problem) {
    return problem.heads_k * problem.head_dim;
}

/// Routing by a scorer that looks at no tensor, or without any slot that is scored, or without a key, does not.
bool scores_summaries(const Problem& problem) {
    return find_scorer(problem.scorer.kind)->parts > 0 && problem.scored() > 0 && problem.tokens_k() > 0;
}

bool has_two_parts(const Problem& problem) {
    return find_scorer(problem.scorer.kind)->parts == 2;
}

/// One pass convolves and summarises for these alone.
bool is_centroid_of_block(const Problem& problem) {
    const ScorerDefinition& definition = *find_scorer(problem.scorer.kind);
    return definition.parts == 1 && definition.part[0].summary == Summary::mean && problem.scorer.sub_blocks == 1;
}

bool is_centred(const Problem& problem) {
    return problem.centroids == Centroids::centred;
}

bool is_fp32(const Problem& problem) {
    return problem.centroids == Centroids::fp32;
}

cudaStream_t stream_of(const Execution& execution) {
    return static_cast<cudaStream_t>(execution.stream);
}

/// Workspace of routing: what the scorer keeps of the keys, in their dtype (parts as in kernels.h, means of
/// Centroids::fp32 in two halves), and the table of block numbers, where summaries are scored; scores, where these are
/// stored.
struct RouteWorkspace {
    void* high = nullptr;
    void* low = nullptr;
    void* block_base = nullptr;
    float* means = nullptr;   ///< fp32, of Centroids::centred
    float* stored = nullptr;  ///< of stored_scores()
    std::size_t bytes = 0;

    RouteWorkspace(const Problem& problem, void* workspace, bool own_centroids) {
        WorkspaceCarver carver(workspace);
        stored = carver.take<float>(stored_scores(problem));
        if (scores_summaries(problem)) take_summaries(problem, carver, own_centroids);
        bytes = carver.used();
    }

private:
    void take_summaries(const Problem& problem, WorkspaceCarver& carver, bool own_centroids) {
        block_base = carver.take_bytes(block_base_size(problem));
        const bool split = is_fp32(problem);
        if (own_centroids || split) high = carver.take<std::uint16_t>(problem.centroid_elements());
        if (split) low = carver.take<std::uint16_t>(problem.centroid_elements());
        if (own_centroids && has_two_parts(problem)) low = static_cast<std::uint16_t*>(high) + part_stride(problem);
        if (own_centroids && is_centred(problem)) means = carver.take<float>(problem.centroid_elements());
    }
};

/// Workspace of pooling alone: the table of block numbers, and the fp32 means of Centroids::centred.
struct PoolingWorkspace {
    void* block_base = nullptr;
    float* means = nullptr;
    std::size_t bytes = 0;

    PoolingWorkspace(const Problem& problem, void* workspace) {
        WorkspaceCarver carver(workspace);
        block_base = carver.take_bytes(block_base_size(problem));
        if (is_centred(problem)) means = carver.take<float>(problem.centroid_elements());
        bytes = is_centred(problem) ? carver.used() : block_base_size(problem);
    }
};

/// Bytes of the scores of a step, of every row and block.
std::size_t decode_scores_size(const Problem& problem) {
    if (!scores_summaries(problem)) return 0;
    WorkspaceCarver carver(nullptr);
    carver.take<float>(problem.tokens_q() * problem.heads_q * problem.longest_blocks());
    return carver.used();
}

ForwardAlgorithm forward_algorithm(const Problem& problem) {
    return choose_forward(problem, current_path(), asked_forward());
}
std::size_t attention_forward_workspace(const Problem& problem) {
    return current_path_table().attention_forward_workspace(problem, forward_algorithm(problem));
}

std::size_t workspace_size_of(Operation operation, const Problem& problem) {
    switch (operation) {
        case Operation::centroids:
        case Operation::key_conv_centroids:
            return PoolingWorkspace(problem, nullptr).bytes;
        case Operation::route:
            return RouteWorkspace(problem, nullptr, true).bytes;
        case Operation::route_with_centroids:
            return RouteWorkspace(problem, nullptr, false).bytes;
        case Operation::attention_forward:
            return attention_forward_workspace(problem);
        case Operation::moba_forward:  // one after the other, in the same memory
            return std::max(RouteWorkspace(problem, nullptr, true).bytes, attention_forward_workspace(problem));
        case Operation::attention_backward:
            return current_path_table().attention_backward_workspace(problem);
        case Operation::key_conv_backward:
            return key_conv_backward_workspace(problem);
        case Operation::key_conv_forward:
        case Operation::append_centroids:
            return 0;
        case Operation::decode_route:
            return decode_scores_size(problem);
        case Operation::decode_attention:
            return decode_attention_workspace(problem);
        case Operation::moba_decode:  // one after the other, in the same memory
            return std::max(decode_scores_size(problem), decode_attention_workspace(problem));
    }
    return 0;
}

/// The second part of `centroids`, null where there is none.
template <typename Pointer>
Pointer second_part(const Problem& problem, Pointer centroids) {
    if (!has_two_parts(problem)) return nullptr;
    using Element =
        std::conditional_t<std::is_const_v<std::remove_pointer_t<Pointer>>, const std::uint16_t, std::uint16_t>;
    return static_cast<Element*>(centroids) + part_stride(problem);
}

CentroidOutput centroid_output(const Problem& problem, void* centroids) {
    if (is_fp32(problem)) return {static_cast<float*>(centroids), nullptr, nullptr};
    return {nullptr, centroids, second_part(problem, centroids)};
}

/// launch_summaries(); of Centroids::centred by way of fp32 `means`.
Status launch_kept(const Problem& problem, ConstTensor k, const std::int32_t* block_base, CentroidOutput out,
                   float* means, cudaStream_t stream) {
    if (!is_centred(problem)) return launch_summaries(problem, k, block_base, out, stream);
    if (Status s = launch_summaries(problem, k, block_base, {means, nullptr, nullptr}, stream); !s.ok()) return s;
    return launch_centred(problem, means, block_base, out.high, stream);
}

Status cuda_compute_centroids(const Problem& problem, ConstTensor k, void* centroids, const Execution& execution) {
    if (Status s = check_rows_aligned("k", k); !s.ok()) return s;
    const cudaStream_t stream = stream_of(execution);
    const PoolingWorkspace workspace(problem, execution.workspace);
    const std::int32_t* block_base = nullptr;
    if (Status s = make_block_base(problem, workspace.block_base, stream, block_base); !s.ok()) return s;
    return launch_kept(problem, k, block_base, centroid_output(problem, centroids), workspace.means, stream);
}

Status cuda_route(const Problem& problem, ConstTensor q, ConstTensor k, std::int32_t* selection, float* scores,
                  const Execution& execution) {
    if (Status s = check_rows_aligned("k", k); !s.ok()) return s;
    const RouteWorkspace workspace(problem, execution.workspace, true);
    const cudaStream_t stream = stream_of(execution);
    const std::int32_t* block_base = nullptr;
    if (scores_summaries(problem)) {
        if (Status s = make_block_base(problem, workspace.block_base, stream, block_base); !s.ok()) return s;
        const CentroidOutput out = {nullptr, workspace.high, workspace.low};
        if (Status s = launch_kept(problem, k, block_base, out, workspace.means, stream); !s.ok()) return s;
    }
    return current_path_table().route(problem, q, workspace.high, workspace.low, block_base, workspace.stored,
                                      selection, scores, stream);
}

Status cuda_route_with_centroids(const Problem& problem, ConstTensor q, const void* centroids, std::int32_t* selection,
                                 float* scores, const Execution& execution) {
    const cudaStream_t stream = stream_of(execution);
    const RouteWorkspace workspace(problem, execution.workspace, false);
    if (!scores_summaries(problem)) {
        return current_path_table().route(problem, q, nullptr, nullptr, nullptr, workspace.stored, selection, scores,
                                          stream);
    }
    const std::int32_t* block_base = nullptr;
    if (Status s = make_block_base(problem, workspace.block_base, stream, block_base); !s.ok()) return s;
    if (!is_fp32(problem)) {
        return current_path_table().route(problem, q, centroids, second_part(problem, centroids), block_base,
                                          workspace.stored, selection, scores, stream);
    }
    if (Status s = launch_split_centroids(problem, static_cast<const float*>(centroids), workspace.high, workspace.low,
                                          stream);
        !s.ok()) {
        return s;
    }
    return current_path_table().route(problem, q, workspace.high, workspace.low, block_base, workspace.stored,
                                      selection, scores, stream);
}

Status cuda_attention_forward(const Problem& problem, ConstTensor q, ConstTensor k, ConstTensor v,
                              const std::int32_t* selection, Tensor out, float* lse, const Execution& execution) {
    return current_path_table().attention_forward(problem, forward_algorithm(problem), q, k, v, selection, out, lse,
                                                  execution.workspace, stream_of(execution));
}

Status cuda_moba_forward(const Problem& problem, ConstTensor q, ConstTensor k, ConstTensor v, Tensor out, float* lse,
                         std::int32_t* selection, const Execution& execution) {
    if (problem.routed() > 0) {
        if (Status s = cuda_route(problem, q, k, selection, nullptr, execution); !s.ok()) return s;
    }
    return cuda_attention_forward(problem, q, k, v, selection, out, lse, execution);
}

Status cuda_attention_backward(const Problem& problem, ConstTensor q, ConstTensor k, ConstTensor v, ConstTensor out,
                               ConstTensor d_out, const float* lse, const std::int32_t* selection, Tensor dq, Tensor dk,
                               Tensor dv, const Execution& execution) {
    const BackwardTensors tensors = {q, k, v, out, d_out, lse, selection, dq, dk, dv};
    return current_path_table().attention_backward(problem, tensors, execution.workspace, stream_of(execution));
}

Status cuda_key_conv_forward(const Problem& problem, ConstTensor k, const float* weight, int width, Tensor out,
                             const Execution& execution) {
    if (Status s = check_rows_aligned("k", k); !s.ok()) return s;
    if (Status s = check_rows_aligned("out", out); !s.ok()) return s;
    return launch_key_conv(problem, k, weight, width, out, stream_of(execution));
}

Status cuda_key_conv_centroids(const Problem& problem, ConstTensor k, const float* weight, int width, Tensor out,
                               void* centroids, const Execution& execution) {
    if (Status s = check_rows_aligned("k", k); !s.ok()) return s;
    if (Status s = check_rows_aligned("out", out); !s.ok()) return s;
    const cudaStream_t stream = stream_of(execution);
    const PoolingWorkspace workspace(problem, execution.workspace);
    const std::int32_t* block_base = nullptr;
    if (Status s = make_block_base(problem, workspace.block_base, stream, block_base); !s.ok()) return s;
    if (is_centred(problem)) {
        const CentroidOutput means = {workspace.means, nullptr, nullptr};
        if (Status s = launch_conv_centroids(problem, k, weight, width, out, block_base, means, stream); !s.ok()) {
            return s;
        }
        return launch_centred(problem, workspace.means, block_base, centroids, stream);
    }
    if (!is_centroid_of_block(problem)) {
        if (Status s = launch_key_conv(problem, k, weight, width, out, stream); !s.ok()) return s;
        return launch_summaries(problem, as_const(out), block_base, centroid_output(problem, centroids), stream);
    }
    return launch_conv_centroids(problem, k, weight, width, out, block_base, centroid_output(problem, centroids),
                                 stream);
}

Status cuda_key_conv_backward(const Problem& problem, ConstTensor k, const float* weight, int width, ConstTensor d_out,
                              Tensor dk, float* d_weight, const Execution& execution) {
    if (Status s = check_rows_aligned("k", k); !s.ok()) return s;
    if (Status s = check_rows_aligned("d_out", d_out); !s.ok()) return s;
    if (Status s = check_rows_aligned("dk", dk); !s.ok()) return s;
    return launch_key_conv_backward(problem, k, weight, width, d_out, dk, d_weight, execution.workspace,
                                    stream_of(execution));
}

Status cuda_append_centroids(const Problem& problem, const Cache& cache, ConstTensor k, std::int64_t appended,
                             void* centroids, const Execution& execution) {
    if (Status s = check_rows_aligned("k", k); !s.ok()) return s;
    return launch_append(problem, cache, k, appended, centroids, stream_of(execution));
}

Status cuda_decode_route(const Problem& problem, const Cache& cache, ConstTensor q, const void* centroids,
                         std::int32_t* selection, float* scores, const Execution& execution) {
    const cudaStream_t stream = stream_of(execution);
    if (!scores_summaries(problem)) {
        return launch_decode_select(problem, cache, nullptr, selection, scores, stream);
    }
    if (Status s = check_rows_aligned("q", q); !s.ok()) return s;
    if (Status s = check_rows_aligned("centroids", ConstTensor{centroids, 0, 0, 0}); !s.ok()) return s;
    auto* all_scores = static_cast<float*>(execution.workspace);
    if (Status s = launch_decode_scores(problem, cache, q, centroids, all_scores, stream); !s.ok()) return s;
    return launch_decode_select(problem, cache, all_scores, selection, scores, stream);
}

Status cuda_decode_attention(const Problem& problem, const Cache& cache, ConstTensor q, ConstTensor k, ConstTensor v,
                             const std::int32_t* selection, Tensor out, float* lse, const Execution& execution) {
    if (Status s = check_rows_aligned("q", q); !s.ok()) return s;
    if (Status s = check_rows_aligned("k", k); !s.ok()) return s;
    if (Status s = check_rows_aligned("v", v); !s.ok()) return s;
    if (Status s = check_rows_aligned("out", out); !s.ok()) return s;
    return launch_decode_attention(problem, cache, q, k, v, selection, out, lse, execution.workspace,
                                   stream_of(execution));
}

}  // namespace

const BackendTable& cuda_backend() {
    static constexpr BackendTable table = {.name = "cuda",
                                           .host_memory = false,
                                           .available = check_device,
                                           .limits = check_limits,
                                           .workspace_size = workspace_size_of,
                                           .compute_centroids = cuda_compute_centroids,
                                           .route = cuda_route,
                                           .route_with_centroids = cuda_route_with_centroids,
                                           .attention_forward = cuda_attention_forward,
                                           .moba_forward = cuda_moba_forward,
                                           .attention_backward = cuda_attention_backward,
                                           .key_conv_forward = cuda_key_conv_forward,
                                           .key_conv_backward = cuda_key_conv_backward,
                                           .key_conv_centroids = cuda_key_conv_centroids,
                                           .append_centroids = cuda_append_centroids,
                                           .decode_route = cuda_decode_route,
                                           .decode_attention = cuda_decode_attention};
    return table;
}

}  // namespace mobalab::kernels
