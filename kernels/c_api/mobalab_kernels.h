#ifndef MOBALAB_KERNELS_C_API_H
#define MOBALAB_KERNELS_C_API_H

/* C interface of kernels/kernels.h, for other languages: the same functions, plain pointers and integers.
 *
 * Every function returns a MobalabStatus and, when it is not MOBALAB_OK and `message` is not null, writes one
 * zero-terminated line of at most message_size - 1 characters there. Nothing is allocated for the caller. Shapes,
 * dtypes and semantics are those of kernels.h, of the four about a cache those of decode.h. */

#include <stddef.h>
#include <stdint.h>

#include "kernels/scorers/scorers.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Only these functions leave the shared library. */
#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

/* Raised whenever a struct or a function below changes. */
#define MOBALAB_KERNELS_ABI 6

typedef enum { MOBALAB_FP32 = 0, MOBALAB_BF16 = 1, MOBALAB_FP16 = 2 } MobalabDataType;
typedef enum { MOBALAB_CPU = 0, MOBALAB_CPU_REFERENCE = 1, MOBALAB_CUDA = 2 } MobalabBackend;
typedef enum {
    MOBALAB_CENTROIDS_INPUT_DTYPE = 0,
    MOBALAB_CENTROIDS_FP32 = 1,
    MOBALAB_CENTROIDS_CENTRED = 2
} MobalabCentroids;
/* MOBALAB_SCORER_mean = 0, MOBALAB_SCORER_quest = 1, ...: the list of kernels/scorers/scorers.h. */
#define MOBALAB_SCORER_NUMBER(name) MOBALAB_SCORER_##name,
typedef enum { MOBALAB_SCORERS(MOBALAB_SCORER_NUMBER) MOBALAB_SCORER_COUNT } MobalabScorer;
#undef MOBALAB_SCORER_NUMBER
typedef enum {
    MOBALAB_OK = 0,
    MOBALAB_INVALID_ARGUMENT = 1,
    MOBALAB_UNSUPPORTED = 2,
    MOBALAB_UNSUPPORTED_DEVICE = 3,
    MOBALAB_WORKSPACE_TOO_SMALL = 4,
    MOBALAB_DEVICE_ERROR = 5
} MobalabStatus;
typedef enum {
    MOBALAB_OP_CENTROIDS = 0,
    MOBALAB_OP_ROUTE = 1,
    MOBALAB_OP_ATTENTION_FORWARD = 2,
    MOBALAB_OP_MOBA_FORWARD = 3,
    MOBALAB_OP_ATTENTION_BACKWARD = 4,
    MOBALAB_OP_KEY_CONV_BACKWARD = 5,
    MOBALAB_OP_KEY_CONV_FORWARD = 6,
    MOBALAB_OP_ROUTE_WITH_CENTROIDS = 7,
    MOBALAB_OP_KEY_CONV_CENTROIDS = 8,
    MOBALAB_OP_APPEND_CENTROIDS = 9,
    MOBALAB_OP_DECODE_ROUTE = 10,
    MOBALAB_OP_DECODE_ATTENTION = 11,
    MOBALAB_OP_MOBA_DECODE = 12
} MobalabOperation;

typedef struct {
    int64_t batch;
    int64_t seqlen_q;
    int64_t seqlen_k;
    int64_t heads_q;
    int64_t heads_k;
    int64_t head_dim;
    int64_t block_size;
    int64_t topk;
    int32_t dtype;        /* MobalabDataType */
    int32_t centroids;    /* MobalabCentroids */
    int32_t scorer;       /* MobalabScorer, of operations that route or summarise keys; others ignore it */
    int32_t keep_first;   /* 0 or 1: block 0 of a sequence is always kept; of operations that route */
    int64_t sub_blocks;   /* of a block, at least 1; above that divides block_size, and the scorer is submean */
    uint64_t scorer_seed; /* of scorer random; others ignore it */
    const int32_t* cu_seqlens_q;
    const int32_t* cu_seqlens_k;
    int64_t total_q;
    int64_t total_k;
    int64_t total_blocks;
    double scale; /* of the softmax, in [1e-30, 1e30], on MOBALAB_CUDA at most 65536; 0: head_dim^-1/2. Of operations
                     that attend */
    int64_t head_dim_v; /* of v, out, d_out and dv; 0: head_dim. Of operations that attend */
    int64_t non_causal; /* 0 or 1: any block may be selected and attended to; of operations that route or attend */
} MobalabProblem;

/* A stride that is not given. Zero is a stride like any other: every entry along that extent is the same memory. */
#define MOBALAB_CONTIGUOUS INT64_MIN

/* [batch, seqlen, heads, head_dim], contiguous in head_dim; strides in elements, each at least 0 or MOBALAB_CONTIGUOUS.
 * With cu_seqlens: [total, heads, head_dim], stride_batch is ignored. See BasicTensor in kernels.h. */
typedef struct {
    void* data;
    int64_t stride_batch;
    int64_t stride_token;
    int64_t stride_head;
} MobalabTensor;

typedef struct {
    int32_t backend; /* MobalabBackend */
    int32_t threads;
    void* stream;
    void* workspace;
    uint64_t workspace_bytes;
} MobalabExecution;

/* Where the keys of a decode problem stand; see Cache in decode.h. */
typedef struct {
    const int32_t* lengths;     /* [batch], each in [0, seqlen_k] */
    const int32_t* block_table; /* [batch, ceil(seqlen_k / page_size)], page numbers; null: not paged */
    int64_t pages;              /* used with a block table only, as is page_size */
    int64_t page_size;
} MobalabCache;

/* A scorer, for those who list or name them; see kernels/scorer.h. */
typedef struct {
    const char* name;
    int32_t parts;   /* of `centroids`, [sub-blocks, parts, heads_k, head_dim]; 0: the scorer keeps nothing of keys */
    int32_t divides; /* 1: sub_blocks may be above 1 */
} MobalabScorerInfo;

int32_t mobalab_abi(void);

/* Of MobalabScorer `scorer`, below MOBALAB_SCORER_COUNT. */
MobalabStatus mobalab_scorer_info(int32_t scorer, MobalabScorerInfo* info, char* message, size_t message_size);

MobalabStatus mobalab_backend_available(int32_t backend, char* message, size_t message_size);

MobalabStatus mobalab_workspace_size(int32_t operation, const MobalabProblem* problem, int32_t backend, uint64_t* bytes,
                                     char* message, size_t message_size);

MobalabStatus mobalab_compute_centroids(const MobalabProblem* problem, MobalabTensor k, void* centroids,
                                        const MobalabExecution* execution, char* message, size_t message_size);

MobalabStatus mobalab_route(const MobalabProblem* problem, MobalabTensor q, MobalabTensor k, int32_t* selection,
                            float* scores, const MobalabExecution* execution, char* message, size_t message_size);

MobalabStatus mobalab_route_with_centroids(const MobalabProblem* problem, MobalabTensor q, const void* centroids,
                                           int32_t* selection, float* scores, const MobalabExecution* execution,
                                           char* message, size_t message_size);

MobalabStatus mobalab_attention_forward(const MobalabProblem* problem, MobalabTensor q, MobalabTensor k,
                                        MobalabTensor v, const int32_t* selection, MobalabTensor out, float* lse,
                                        const MobalabExecution* execution, char* message, size_t message_size);

MobalabStatus mobalab_moba_forward(const MobalabProblem* problem, MobalabTensor q, MobalabTensor k, MobalabTensor v,
                                   MobalabTensor out, float* lse, int32_t* selection, const MobalabExecution* execution,
                                   char* message, size_t message_size);

MobalabStatus mobalab_attention_backward(const MobalabProblem* problem, MobalabTensor q, MobalabTensor k,
                                         MobalabTensor v, MobalabTensor out, MobalabTensor d_out, const float* lse,
                                         const int32_t* selection, MobalabTensor dq, MobalabTensor dk, MobalabTensor dv,
                                         const MobalabExecution* execution, char* message, size_t message_size);

MobalabStatus mobalab_key_conv_forward(const MobalabProblem* problem, MobalabTensor k, const float* weight,
                                       int32_t width, MobalabTensor out, const MobalabExecution* execution,
                                       char* message, size_t message_size);

MobalabStatus mobalab_key_conv_centroids(const MobalabProblem* problem, MobalabTensor k, const float* weight,
                                         int32_t width, MobalabTensor out, void* centroids,
                                         const MobalabExecution* execution, char* message, size_t message_size);

MobalabStatus mobalab_key_conv_backward(const MobalabProblem* problem, MobalabTensor k, const float* weight,
                                        int32_t width, MobalabTensor d_out, MobalabTensor dk, float* d_weight,
                                        const MobalabExecution* execution, char* message, size_t message_size);

MobalabStatus mobalab_append_centroids(const MobalabProblem* problem, const MobalabCache* cache, MobalabTensor k,
                                       int64_t appended, void* centroids, const MobalabExecution* execution,
                                       char* message, size_t message_size);

MobalabStatus mobalab_decode_route(const MobalabProblem* problem, const MobalabCache* cache, MobalabTensor q,
                                   const void* centroids, int32_t* selection, float* scores,
                                   const MobalabExecution* execution, char* message, size_t message_size);

MobalabStatus mobalab_decode_attention(const MobalabProblem* problem, const MobalabCache* cache, MobalabTensor q,
                                       MobalabTensor k, MobalabTensor v, const int32_t* selection, MobalabTensor out,
                                       float* lse, const MobalabExecution* execution, char* message,
                                       size_t message_size);

MobalabStatus mobalab_moba_decode(const MobalabProblem* problem, const MobalabCache* cache, MobalabTensor q,
                                  MobalabTensor k, MobalabTensor v, int64_t appended, void* centroids,
                                  MobalabTensor out, float* lse, int32_t* selection, const MobalabExecution* execution,
                                  char* message, size_t message_size);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
