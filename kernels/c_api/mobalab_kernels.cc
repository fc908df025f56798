#include "kernels/c_api/mobalab_kernels.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <string>
#include <string_view>

#include "kernels/decode.h"
#include "kernels/kernels.h"

namespace mk = mobalab::kernels;

namespace {

/// The numbers of the C enums are those of the C++ ones.
static_assert(static_cast<int>(mk::DataType::fp16) == MOBALAB_FP16);
static_assert(static_cast<int>(mk::Backend::cuda) == MOBALAB_CUDA);
static_assert(static_cast<int>(mk::Centroids::fp32) == MOBALAB_CENTROIDS_FP32);
static_assert(static_cast<int>(mk::Centroids::centred) == MOBALAB_CENTROIDS_CENTRED);
static_assert(static_cast<int>(mk::StatusCode::device_error) == MOBALAB_DEVICE_ERROR);
static_assert(static_cast<int>(mk::Operation::key_conv_backward) == MOBALAB_OP_KEY_CONV_BACKWARD);
static_assert(mk::contiguous == MOBALAB_CONTIGUOUS);
static_assert(static_cast<int>(mk::Operation::key_conv_centroids) == MOBALAB_OP_KEY_CONV_CENTROIDS);
static_assert(static_cast<int>(mk::Operation::append_centroids) == MOBALAB_OP_APPEND_CENTROIDS);
static_assert(static_cast<int>(mk::Operation::moba_decode) == MOBALAB_OP_MOBA_DECODE);
static_assert(static_cast<int>(mk::ScorerKind::mean) == MOBALAB_SCORER_mean);
static_assert(static_cast<int>(mk::ScorerKind::random) == MOBALAB_SCORER_random);

/// Other languages declare the struct themselves: no hidden padding.
static_assert(sizeof(MobalabProblem) == 14 * sizeof(int64_t) + 4 * sizeof(int32_t) + sizeof(uint64_t) +
                                            2 * sizeof(const int32_t*) + sizeof(double));

MobalabStatus report(MobalabStatus code, std::string_view text, char* message, size_t message_size) {
    if (code != MOBALAB_OK && message != nullptr && message_size > 0) {
        const std::size_t length = std::min(text.size(), message_size - 1);
        std::memcpy(message, text.data(), length);
        message[length] = '\0';
    }
    return code;
}

bool in_range(int64_t value, int last) {
    return value >= 0 && value <= last;
}

/// All enums have their default at 0.
MobalabStatus report_enum(const char* name, int32_t value, const char* valid, char* message, size_t message_size) {
    const std::string text =
        std::string(name) + " = " + std::to_string(value) + ": must be " + valid + "; nearest valid choice: 0";
    return report(MOBALAB_INVALID_ARGUMENT, text, message, message_size);
}

MobalabStatus report_flag(const char* name, int64_t value, char* message, size_t message_size) {
    const std::string text = std::string(name) + " = " + std::to_string(value) +
                             ": must be 0 (no) or 1 (yes); nearest valid choice: " + (value < 0 ? "0" : "1");
    return report(MOBALAB_INVALID_ARGUMENT, text, message, message_size);
}

MobalabStatus report_null(const char* name, char* message, size_t message_size) {
    const std::string text = std::string(name) + " is null: must point to one; nearest valid choice: a pointer to one";
    return report(MOBALAB_INVALID_ARGUMENT, text, message, message_size);
}

mk::Problem to_problem(const MobalabProblem& c) {
    mk::Problem p;
    p.batch = c.batch;
    p.seqlen_q = c.seqlen_q;
    p.seqlen_k = c.seqlen_k;
    p.heads_q = c.heads_q;
    p.heads_k = c.heads_k;
    p.head_dim = c.head_dim;
    p.block_size = c.block_size;
    p.topk = c.topk;
    p.dtype = static_cast<mk::DataType>(c.dtype);
    p.centroids = static_cast<mk::Centroids>(c.centroids);
    p.scorer = {static_cast<mk::ScorerKind>(c.scorer), c.sub_blocks, c.scorer_seed};
    p.keep_first = c.keep_first != 0;
    p.cu_seqlens_q = c.cu_seqlens_q;
    p.cu_seqlens_k = c.cu_seqlens_k;
    p.total_q = c.total_q;
    p.total_k = c.total_k;
    p.total_blocks = c.total_blocks;
    if (c.scale != 0.0) p.scale = c.scale;
    p.head_dim_v = c.head_dim_v;
    p.causal = c.non_causal == 0;
    return p;
}

mk::Execution to_execution(const MobalabExecution& c) {
    mk::Execution e;
    e.backend = static_cast<mk::Backend>(c.backend);
    e.threads = c.threads;
    e.stream = c.stream;
    e.workspace = c.workspace;
    e.workspace_bytes = c.workspace_bytes;
    return e;
}

mk::Cache to_cache(const MobalabCache& c) {
    return {c.lengths, c.block_table, c.pages, c.page_size};
}

mk::Tensor out_tensor(MobalabTensor t) {
    return {t.data, t.stride_batch, t.stride_token, t.stride_head};
}
mk::ConstTensor in_tensor(MobalabTensor t) {
    return {t.data, t.stride_batch, t.stride_token, t.stride_head};
}

/// Checks what only exists on this side of the border, then calls and turns the Status into a code and a line.
/// No exception crosses it.
template <typename Call>
MobalabStatus guarded(const MobalabProblem* problem, int32_t backend, char* message, size_t message_size, Call call) {
    if (problem == nullptr) {
        return report_null("problem", message, message_size);
    }
    if (!in_range(problem->dtype, MOBALAB_FP16)) {
        return report_enum("dtype", problem->dtype, "0 (fp32), 1 (bf16) or 2 (fp16)", message, message_size);
    }
    if (!in_range(problem->centroids, MOBALAB_CENTROIDS_CENTRED)) {
        return report_enum("centroids", problem->centroids, "0 (dtype of the keys), 1 (fp32) or 2 (centred)", message,
                           message_size);
    }
    if (!in_range(problem->keep_first, 1)) {
        return report_flag("keep_first", problem->keep_first, message, message_size);
    }
    if (!in_range(problem->non_causal, 1)) {
        return report_flag("non_causal", problem->non_causal, message, message_size);
    }
    if (!in_range(backend, MOBALAB_CUDA)) {
        return report_enum("backend", backend, "0 (cpu), 1 (cpu reference) or 2 (cuda)", message, message_size);
    }
    try {
        const mk::Status status = call(to_problem(*problem));
        return report(static_cast<MobalabStatus>(status.code), status.message, message, message_size);
    } catch (const std::exception& error) {  // std::bad_alloc on the CPU backends
        return report(MOBALAB_DEVICE_ERROR, error.what(), message, message_size);
    }
}

/// The same for an operation, which also has an Execution.
template <typename Call>
MobalabStatus execute(const MobalabProblem* problem, const MobalabExecution* execution, char* message,
                      size_t message_size, Call call) {
    if (execution == nullptr) return report_null("execution", message, message_size);
    return guarded(problem, execution->backend, message, message_size,
                   [&](const mk::Problem& p) { return call(p, to_execution(*execution)); });
}

/// The same for one that has a cache, too.
template <typename Call>
MobalabStatus execute(const MobalabProblem* problem, const MobalabCache* cache, const MobalabExecution* execution,
                      char* message, size_t message_size, Call call) {
    if (cache == nullptr) return report_null("cache", message, message_size);
    return execute(problem, execution, message, message_size,
                   [&](const mk::Problem& p, const mk::Execution& e) { return call(p, to_cache(*cache), e); });
}

}  // namespace

int32_t mobalab_abi(void) {
    return MOBALAB_KERNELS_ABI;
}

MobalabStatus mobalab_backend_available(int32_t backend, char* message, size_t message_size) {
    const MobalabProblem any{};
    return guarded(&any, backend, message, message_size,
                   [&](const mk::Problem&) { return mk::backend_available(static_cast<mk::Backend>(backend)); });
}

MobalabStatus mobalab_scorer_info(int32_t scorer, MobalabScorerInfo* info, char* message, size_t message_size) {
    if (info == nullptr) return report_null("info", message, message_size);
    const mk::ScorerDefinition* definition = mk::find_scorer(static_cast<mk::ScorerKind>(scorer));
    if (definition == nullptr) {
        const std::string valid = "in [0, " + std::to_string(MOBALAB_SCORER_COUNT - 1) + "]";
        return report_enum("scorer", scorer, valid.c_str(), message, message_size);
    }
    *info = {definition->name.data(), definition->parts, definition->divides ? 1 : 0};
    return MOBALAB_OK;
}

MobalabStatus mobalab_workspace_size(int32_t operation, const MobalabProblem* problem, int32_t backend, uint64_t* bytes,
                                     char* message, size_t message_size) {
    if (bytes == nullptr) return report_null("bytes", message, message_size);
    if (!in_range(operation, MOBALAB_OP_MOBA_DECODE)) {
        return report_enum("operation", operation, "one of MobalabOperation, 0 to 12", message, message_size);
    }
    return guarded(problem, backend, message, message_size, [&](const mk::Problem& p) {
        const auto which = static_cast<mk::Operation>(operation);
        mk::Status status = mk::supported(which, p, static_cast<mk::Backend>(backend));
        if (status.ok()) *bytes = mk::workspace_size(which, p, static_cast<mk::Backend>(backend));
        return status;
    });
}

MobalabStatus mobalab_compute_centroids(const MobalabProblem* problem, MobalabTensor k, void* centroids,
                                        const MobalabExecution* execution, char* message, size_t message_size) {
    return execute(problem, execution, message, message_size, [&](const mk::Problem& p, const mk::Execution& e) {
        return mk::compute_centroids(p, in_tensor(k), centroids, e);
    });
}

MobalabStatus mobalab_route(const MobalabProblem* problem, MobalabTensor q, MobalabTensor k, int32_t* selection,
                            float* scores, const MobalabExecution* execution, char* message, size_t message_size) {
    return execute(problem, execution, message, message_size, [&](const mk::Problem& p, const mk::Execution& e) {
        return mk::route(p, in_tensor(q), in_tensor(k), selection, scores, e);
    });
}

MobalabStatus mobalab_route_with_centroids(const MobalabProblem* problem, MobalabTensor q, const void* centroids,
                                           int32_t* selection, float* scores, const MobalabExecution* execution,
                                           char* message, size_t message_size) {
    return execute(problem, execution, message, message_size, [&](const mk::Problem& p, const mk::Execution& e) {
        return mk::route_with_centroids(p, in_tensor(q), centroids, selection, scores, e);
    });
}

MobalabStatus mobalab_attention_forward(const MobalabProblem* problem, MobalabTensor q, MobalabTensor k,
                                        MobalabTensor v, const int32_t* selection, MobalabTensor out, float* lse,
                                        const MobalabExecution* execution, char* message, size_t message_size) {
    return execute(problem, execution, message, message_size, [&](const mk::Problem& p, const mk::Execution& e) {
        return mk::attention_forward(p, in_tensor(q), in_tensor(k), in_tensor(v), selection, out_tensor(out), lse, e);
    });
}

MobalabStatus mobalab_moba_forward(const MobalabProblem* problem, MobalabTensor q, MobalabTensor k, MobalabTensor v,
                                   MobalabTensor out, float* lse, int32_t* selection, const MobalabExecution* execution,
                                   char* message, size_t message_size) {
    return execute(problem, execution, message, message_size, [&](const mk::Problem& p, const mk::Execution& e) {
        return mk::moba_forward(p, in_tensor(q), in_tensor(k), in_tensor(v), out_tensor(out), lse, selection, e);
    });
}

MobalabStatus mobalab_attention_backward(const MobalabProblem* problem, MobalabTensor q, MobalabTensor k,
                                         MobalabTensor v, MobalabTensor out, MobalabTensor d_out, const float* lse,
                                         const int32_t* selection, MobalabTensor dq, MobalabTensor dk, MobalabTensor dv,
                                         const MobalabExecution* execution, char* message, size_t message_size) {
    return execute(problem, execution, message, message_size, [&](const mk::Problem& p, const mk::Execution& e) {
        return mk::attention_backward(p, in_tensor(q), in_tensor(k), in_tensor(v), in_tensor(out), in_tensor(d_out),
                                      lse, selection, out_tensor(dq), out_tensor(dk), out_tensor(dv), e);
    });
}

MobalabStatus mobalab_key_conv_forward(const MobalabProblem* problem, MobalabTensor k, const float* weight,
                                       int32_t width, MobalabTensor out, const MobalabExecution* execution,
                                       char* message, size_t message_size) {
    return execute(problem, execution, message, message_size, [&](const mk::Problem& p, const mk::Execution& e) {
        return mk::key_conv_forward(p, in_tensor(k), weight, width, out_tensor(out), e);
    });
}

MobalabStatus mobalab_key_conv_centroids(const MobalabProblem* problem, MobalabTensor k, const float* weight,
                                         int32_t width, MobalabTensor out, void* centroids,
                                         const MobalabExecution* execution, char* message, size_t message_size) {
    return execute(problem, execution, message, message_size, [&](const mk::Problem& p, const mk::Execution& e) {
        return mk::key_conv_centroids(p, in_tensor(k), weight, width, out_tensor(out), centroids, e);
    });
}

MobalabStatus mobalab_key_conv_backward(const MobalabProblem* problem, MobalabTensor k, const float* weight,
                                        int32_t width, MobalabTensor d_out, MobalabTensor dk, float* d_weight,
                                        const MobalabExecution* execution, char* message, size_t message_size) {
    return execute(problem, execution, message, message_size, [&](const mk::Problem& p, const mk::Execution& e) {
        return mk::key_conv_backward(p, in_tensor(k), weight, width, in_tensor(d_out), out_tensor(dk), d_weight, e);
    });
}

MobalabStatus mobalab_append_centroids(const MobalabProblem* problem, const MobalabCache* cache, MobalabTensor k,
                                       int64_t appended, void* centroids, const MobalabExecution* execution,
                                       char* message, size_t message_size) {
    return execute(problem, cache, execution, message, message_size,
                   [&](const mk::Problem& p, const mk::Cache& c, const mk::Execution& e) {
                       return mk::append_centroids(p, c, in_tensor(k), appended, centroids, e);
                   });
}

MobalabStatus mobalab_decode_route(const MobalabProblem* problem, const MobalabCache* cache, MobalabTensor q,
                                   const void* centroids, int32_t* selection, float* scores,
                                   const MobalabExecution* execution, char* message, size_t message_size) {
    return execute(problem, cache, execution, message, message_size,
                   [&](const mk::Problem& p, const mk::Cache& c, const mk::Execution& e) {
                       return mk::decode_route(p, c, in_tensor(q), centroids, selection, scores, e);
                   });
}

MobalabStatus mobalab_decode_attention(const MobalabProblem* problem, const MobalabCache* cache, MobalabTensor q,
                                       MobalabTensor k, MobalabTensor v, const int32_t* selection, MobalabTensor out,
                                       float* lse, const MobalabExecution* execution, char* message,
                                       size_t message_size) {
    return execute(problem, cache, execution, message, message_size,
                   [&](const mk::Problem& p, const mk::Cache& c, const mk::Execution& e) {
                       return mk::decode_attention(p, c, in_tensor(q), in_tensor(k), in_tensor(v), selection,
                                                   out_tensor(out), lse, e);
                   });
}

MobalabStatus mobalab_moba_decode(const MobalabProblem* problem, const MobalabCache* cache, MobalabTensor q,
                                  MobalabTensor k, MobalabTensor v, int64_t appended, void* centroids,
                                  MobalabTensor out, float* lse, int32_t* selection, const MobalabExecution* execution,
                                  char* message, size_t message_size) {
    return execute(problem, cache, execution, message, message_size,
                   [&](const mk::Problem& p, const mk::Cache& c, const mk::Execution& e) {
                       return mk::moba_decode(p, c, in_tensor(q), in_tensor(k), in_tensor(v), appended, centroids,
                                              out_tensor(out), lse, selection, e);
                   });
}
