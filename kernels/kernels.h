#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/scorer.h"

namespace mobalab::kernels {

// Mixture of Block Attention: the one public API of every backend.
//
// Semantics (those of the official FlashMoBA kernel, on every backend):
//   - blocks of B keys never cross a sequence; the last one of a sequence may be partial;
//   - query row r of a sequence with sq queries and sk keys stands at position p = r + sk - sq (bottom-right aligned),
//     its own block is p / B, its candidates are the blocks entirely before its own: [0, p / B);
//   - with sq > sk the first sq - sk rows stand before every key (p < 0): they have no block and no candidate, out is
//     0, lse +inf, their gradients are 0, and they add to nobody's;
//   - it keeps its own block plus its best topk - 1 candidates (all of them when there are fewer); with
//     Problem::keep_first block 0 of its sequence, where that is a candidate, and its best topk - 2 of the others;
//   - the score of a block is that of Problem::scorer (kernels/scorer.h), accumulated in fp32 and unscaled. By default
//     it is q . centroid; the centroid is the fp32 mean of the block's keys rounded to the input dtype
//     (Centroids::input_dtype);
//   - equal scores: the higher block index wins; a score that is NaN ranks above every number, +inf included (as in
//     torch.topk), so a NaN key is kept and shows in the rows that could see it; among NaN the higher block; a score of
//     -inf is no candidate;
//   - attention is one exact softmax over all kept keys at positions <= p, of q . key times Problem::scale, which is
//     head_dim^-1/2 unless it is given;
//   - no gradient flows through routing or centroids.
//
// Not causal (Problem::causal is false; the official kernel's causal=False): every block of the sequence is a candidate
// of every query, the partial last one included, with a summary over its real length. No block is the query's own: the
// best topk candidates are kept (all when there are fewer; with keep_first block 0 and the best topk - 1 of the
// others), and all their keys are attended to. A row that keeps no block, as its sequence has no key or all scores are
// -inf, has out 0, lse +inf and gradients 0.
//
// NaN and infinity: a row depends on its own query and on what it may look at, nothing else. A key that is NaN changes
// the selection, scores, out and lse of rows whose candidates or own block (up to their position) hold it, and no bit
// of any other row. Values are weighted by exact zeros where a row must not look, and 0 * NaN = NaN: a value that is
// NaN or infinite may reach the rows before it in its own block and, with blocks below 128 keys, those that selected
// one of its neighbours (as in every tiled attention kernel); gradients of rows and keys that share a block with it
// likewise.

enum class DataType { fp32, bf16, fp16 };
std::size_t size_of(DataType dtype);         ///< bytes of an element
std::string_view to_string(DataType dtype);  ///< "fp32", "bf16", "fp16"

enum class Backend {
    cpu,            ///< fast multi-threaded fp32 path, the default
    cpu_reference,  ///< plain double-precision loops; the judge
    cuda,  ///< devices of compute capability 8.0 and up, 16-bit dtypes, head_dim a multiple of 8 up to 256, block_size
           ///< up to 16384; supported() says what else, unsupported_device where there is no device. MOBALAB_CUDA_PATH
           ///< in the environment (auto, hopper, portable) chooses among its kernels, MOBALAB_CUDA_FORWARD (auto,
           ///< lists, queries) among the ways to attend on the hopper path, MOBALAB_CUDA_SHARED_MEMORY (bytes, at least
           ///< 101376) keeps kernels below a limit of shared memory; all are read at the first call
};

/// How centroids (a scorer's summaries of keys) are kept between pooling and scoring.
enum class Centroids {
    input_dtype,  ///< rounded to the dtype of the keys, as the official kernel does
    fp32,         ///< kept in fp32 (cuda: split into two 16-bit halves)
    /// Scorer mean: the fp32 mean less that of block 0 of the sequence, rounded to the dtype of the keys (which must
    /// hold the difference). What all keys share cancels before it can make the numbers coarse; no rank changes but by
    /// rounding, as q . (mean of block 0) is the same for all blocks of a row. Scores are relative to block 0's: an
    /// infinite query scores NaN there. Channels in which block 0's mean is not finite are left as they are. The same
    /// in prefill and decode: block 0 is whole where a row has candidates.
    centred,
};

enum class StatusCode { ok, invalid_argument, unsupported, unsupported_device, workspace_too_small, device_error };

/// Errors are values: nothing in this API throws. `message` names the value, the rule and the nearest valid choice.
struct [[nodiscard]] Status {
    StatusCode code = StatusCode::ok;
    std::string message;
    bool ok() const { return code == StatusCode::ok; }
};

/// What a softmax scale may be: with these, fp32 holds it, and its product with log2(e), as normal numbers. 0 and below
/// are refused: 0 weighs all kept keys alike without a look at the queries, and a negative one is negated queries.
inline constexpr double min_scale = 1e-30, max_scale = 1e30;

/// The softmax scale that is not given: head_dim^-1/2 (Attention Is All You Need, 2017, section 3.2.1).
double default_scale(std::int64_t head_dim);

/// Every number of one problem.
///
/// Tensors are [batch, seqlen, heads, head_dim] (those of values: head_dim_v). With cu_seqlens they are [total, heads,
/// head_dim] (a batch of 1), and sequence b owns tokens [cu_seqlens[b], cu_seqlens[b + 1]); seqlen_* is then the
/// longest sequence and total_* = cu_seqlens[batch]. "tokens" below counts those of all sequences, one sequence behind
/// the other.
///
/// cu_seqlens start at 0, never fall and end at total_*; on backends in host memory that is checked. On backend cuda
/// the contents are the caller's word: whatever they hold, no kernel reads or writes outside the tensors, but results
/// are then unspecified.
struct Problem {
    std::int64_t batch = 1;
    std::int64_t seqlen_q = 0;
    std::int64_t seqlen_k = 0;
    std::int64_t heads_q = 1;  ///< multiple of heads_k; query head h reads key head h / (heads_q / heads_k)
    std::int64_t heads_k = 1;
    std::int64_t head_dim = 64;   ///< of q and k (and their gradients), which alone routing looks at
    std::int64_t head_dim_v = 0;  ///< of v, out and their gradients; 0: head_dim. Of operations that attend
    std::int64_t block_size = 128;
    std::int64_t topk = 8;  ///< own block (if causal) included, at least 1; the number of blocks or more: all of them
    DataType dtype = DataType::fp32;
    Centroids centroids = Centroids::input_dtype;
    Scorer scorer = {};  ///< of the operations that route or summarise keys; attention alone ignores it

    /// Block 0 of its sequence is one of the topk of every row that has it as a candidate, whatever its score is (NaN
    /// and -inf included): the first tokens hold much of the attention of trained models (attention sinks: Xiao et al.,
    /// ICLR 2024). If causal it needs a topk of at least 2: with 1 a row keeps its own block alone. Of the operations
    /// that route; others ignore it.
    bool keep_first = false;

    /// Whether a query sees its own block and what is before it, or any block; see above. Of the operations that route
    /// or attend.
    bool causal = true;

    /// What q . key is multiplied with before the softmax, in [min_scale, max_scale]; none: head_dim^-1/2. Of the
    /// operations that attend; routing scores are unscaled. Backend cuda takes at most 65,536, and its results are NaN
    /// where scaled scores reach 2^30.
    std::optional<double> scale;

    /// [batch + 1], backend's memory; both or neither. Operations on keys alone look at cu_seqlens_k only.
    const std::int32_t* cu_seqlens_q = nullptr;
    const std::int32_t* cu_seqlens_k = nullptr;
    std::int64_t total_q = 0;  ///< used with cu_seqlens only
    std::int64_t total_k = 0;
    std::int64_t total_blocks = 0;  ///< sum over sequences of ceil(sk / B); used with cu_seqlens only

    std::int64_t tokens_q() const { return cu_seqlens_q != nullptr ? total_q : batch * seqlen_q; }
    std::int64_t tokens_k() const { return cu_seqlens_k != nullptr ? total_k : batch * seqlen_k; }
    /// Of the longest sequence.
    std::int64_t longest_blocks() const { return (seqlen_k + block_size - 1) / block_size; }
    std::int64_t blocks() const { return cu_seqlens_k != nullptr ? total_blocks : batch * longest_blocks(); }
    /// Sub-blocks that routing scores.
    std::int64_t sub_blocks() const { return blocks() * scorer.sub_blocks; }
    /// Elements of `centroids` (see compute_centroids); 0 where the scorer keeps none.
    std::int64_t centroid_elements() const { return parts_of(scorer.kind) * sub_blocks() * heads_k * head_dim; }
    std::int64_t value_dim() const { return head_dim_v != 0 ? head_dim_v : head_dim; }
    double softmax_scale() const { return scale.value_or(default_scale(head_dim)); }
    DataType centroid_dtype() const { return centroids == Centroids::fp32 ? DataType::fp32 : dtype; }
    /// Slots of a row of `selection`: the blocks it keeps beside its own (where it has one), at most.
    std::int64_t routed() const {
        if (!causal) return std::min(topk, longest_blocks());
        return std::min(topk, std::max<std::int64_t>(1, longest_blocks())) - 1;
    }
    /// Those of them that go to the best scores: all, or all but the one of block 0.
    std::int64_t scored() const { return keep_first && routed() > 0 ? routed() - 1 : routed(); }
};

/// The default of every stride: the one of a contiguous tensor.
inline constexpr std::int64_t contiguous = std::numeric_limits<std::int64_t>::min();

/// Non-owning tensor [batch, seqlen, heads, head_dim], contiguous in head_dim; the other strides are free, in elements.
///
/// A stride of 0 is a stride: all entries along that extent are the same memory (torch.expand, numpy.broadcast_to).
/// Rows of tensors that are read may overlap so or otherwise; those of tensors that are written must not. Strides must
/// not be negative; those of extents of at most 1 are ignored, whatever they hold.
template <typename Pointer>
struct BasicTensor {
    Pointer data = nullptr;
    std::int64_t stride_batch = contiguous;  ///< contiguous: seqlen * stride_token; ignored with cu_seqlens
    std::int64_t stride_token = contiguous;  ///< contiguous: heads * head_dim
    std::int64_t stride_head = contiguous;   ///< contiguous: head_dim
};
using Tensor = BasicTensor<void*>;
using ConstTensor = BasicTensor<const void*>;

inline ConstTensor as_const(const Tensor& tensor) {
    return {tensor.data, tensor.stride_batch, tensor.stride_token, tensor.stride_head};
}

inline constexpr int max_threads = 4096;

/// Where and with what to run.
struct Execution {
    Backend backend = Backend::cpu;
    int threads = 0;            ///< CPU backends, at most max_threads; 0: all hardware threads
    void* stream = nullptr;     ///< CUDA backend: cudaStream_t
    void* workspace = nullptr;  ///< CUDA backend: workspace_size() bytes of device memory, 256-byte aligned
    std::size_t workspace_bytes = 0;
};

enum class Operation {
    centroids,
    route,
    attention_forward,
    moba_forward,
    attention_backward,
    key_conv_backward,
    key_conv_forward,
    route_with_centroids,
    key_conv_centroids,
    append_centroids,  // these four: decode.h
    decode_route,
    decode_attention,
    moba_decode,
};

// Of all operations: pointers are aligned to their elements (16 bytes for tensors on backend cuda). What an operation
// writes must not overlap anything else it is given: the backends read inputs while they write. Two tensors may share a
// range of addresses where both have the same strides and no element is in both (the parts of one packed tensor).

/// Bytes of workspace `operation` needs; 0 on the CPU backends (they manage their own memory) and where supported()
/// says no. Depends on the integers of the problem only, never on the contents of cu_seqlens.
std::size_t workspace_size(Operation operation, const Problem& problem, Backend backend);

/// Whether the backend takes `operation` with the integers of this problem, on a machine that has its device: what a
/// call would refuse before it looks at a pointer. See backend_available() for the device.
Status supported(Operation operation, const Problem& problem, Backend backend);

/// What the problem's scorer keeps of every block, for scorer mean its centroid: out is [sub_blocks(), parts, heads_k,
/// head_dim] contiguous, so that what a shorter sequence keeps is the beginning of what a longer one does; dtype of the
/// keys, or fp32 with Centroids::fp32. Row j of a sequence belongs to its sub-block j, keys [j * B / r, (j + 1) * B /
/// r) with r = scorer.sub_blocks; every block of a sequence has r of them. A partial sub-block is summarised over its
/// real length, an empty one (behind the last key) is zero. Scorer random keeps nothing: `centroids` may then be null.
Status compute_centroids(const Problem& problem, ConstTensor k, void* centroids, const Execution& execution);

/// Exact top-(k-1) routing without V. `selection` is int32 [heads_q, tokens_q, routed()]: block numbers inside the
/// query's own sequence, best first, -1 past the number of candidates. `scores` (may be null) is fp32 of the same
/// shape, -inf past it. The own block of a causal problem is implied and not stored. With keep_first slot 0 holds block
/// 0 with score +inf (-1 and -inf in rows that do not have it as a candidate) and the slots behind it the others, best
/// first.
Status route(const Problem& problem, ConstTensor q, ConstTensor k, std::int32_t* selection, float* scores,
             const Execution& execution);

/// route() with the centroids that compute_centroids() wrote for the same keys: one pooling serves many chunks of
/// queries (with the same seqlen_k, block_size, dtype, Centroids and scorer the selection equals
/// route()'s bit for bit).
Status route_with_centroids(const Problem& problem, ConstTensor q, const void* centroids, std::int32_t* selection,
                            float* scores, const Execution& execution);

/// Attention over the own (if causal) and the selected blocks. `selection` is shaped as route() writes it; each row is
/// a set of blocks: the order is free, a block named twice counts once, and entries that are no candidate of their row
/// (negative ones, its own block, later ones, none of the sequence) are ignored. out: like q, of head_dim_v. lse: fp32
/// [heads_q, tokens_q], natural log of the sum of exponentials; +inf and out = 0 for a row that sees no key.
Status attention_forward(const Problem& problem, ConstTensor q, ConstTensor k, ConstTensor v,
                         const std::int32_t* selection, Tensor out, float* lse, const Execution& execution);

/// route() followed by attention_forward(); `selection` is written for the backward pass.
Status moba_forward(const Problem& problem, ConstTensor q, ConstTensor k, ConstTensor v, Tensor out, float* lse,
                    std::int32_t* selection, const Execution& execution);

/// Gradients of attention_forward by recomputation from lse; selection: as there. dq, dk, dv: dtype of the inputs,
/// fully written.
Status attention_backward(const Problem& problem, ConstTensor q, ConstTensor k, ConstTensor v, ConstTensor out,
                          ConstTensor d_out, const float* lse, const std::int32_t* selection, Tensor dq, Tensor dk,
                          Tensor dv, const Execution& execution);

/// Candidates a row can keep on backend cuda: those beside its own block.
inline constexpr std::int64_t max_routed_cuda = 1023;

/// Widths of the key convolution.
inline constexpr int min_conv_width = 1;
inline constexpr int max_conv_width = 8;

/// Depthwise causal key convolution k'_t = k_t + silu(sum_{l < width} weight[channel][l] * k_{t-l}), channel = head *
/// head_dim + element, zero before the start of a sequence; paper section 3 ("kconv"). weight: fp32 [heads_k, head_dim,
/// width], lag 0 first. Uses batch, seqlen_k, heads_k, head_dim, dtype and cu_seqlens_k of the problem.
Status key_conv_forward(const Problem& problem, ConstTensor k, const float* weight, int width, Tensor out,
                        const Execution& execution);

/// key_conv_forward() and compute_centroids() of its output, bit for bit, in one pass over the keys where the backend
/// can. centroids: see compute_centroids().
Status key_conv_centroids(const Problem& problem, ConstTensor k, const float* weight, int width, Tensor out,
                          void* centroids, const Execution& execution);

/// Gradients of key_conv_forward: dk like k, d_weight fp32 like weight; both fully written.
Status key_conv_backward(const Problem& problem, ConstTensor k, const float* weight, int width, ConstTensor d_out,
                         Tensor dk, float* d_weight, const Execution& execution);

/// Whether this build and this machine can run the backend; `message` says why not.
Status backend_available(Backend backend);

}  // namespace mobalab::kernels
