#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/kernels.h"

/// The judge: plain loops in double precision, double in and double out, so that gradients can be checked by finite
/// differences and every backend against one truth. Semantics as in kernels.h. Problems must be valid (check_problem),
/// with cu_seqlens in host memory; problem.dtype only decides how centroids are rounded.
namespace mobalab::kernels::reference {

/// Reads row (token, head), head_dim values, of a [tokens, heads, head_dim] tensor.
using Rows = std::function<void(std::int64_t token, std::int64_t head, double* row)>;

/// A tensor of problem.dtype and head_dim, `seqlen` tokens an entry of the batch, strides resolved or `contiguous`; and
/// a contiguous one of doubles. Tokens are counted over the batch. Both must outlive the reader.
Rows rows_of(const Problem& problem, ConstTensor tensor, std::int64_t heads, std::int64_t seqlen);
Rows rows_of(const std::vector<double>& contiguous, std::int64_t heads, std::int64_t head_dim);

struct Options {
    int threads = 0;                    ///< 0: all hardware threads
    std::vector<std::int64_t> queries;  ///< judge only these query tokens, in this order; empty: all of them
};

/// [parts, sub_blocks, heads_k, head_dim] as compute_centroids(): summaries in double, rounded to fp32 and then to what
/// problem.centroids says.
std::vector<double> centroids(const Problem& problem, const Rows& k, int threads = 0);

/// Both [heads_q, judged queries, routed()], best first; -1 and -inf past the number of candidates.
struct Routing {
    std::vector<std::int32_t> selection;
    std::vector<double> scores;
};
Routing route(const Problem& problem, const Rows& q, const std::vector<double>& centroids, const Options& options = {});

struct Attention {
    std::vector<double> out;  ///< [judged queries, heads_q, value_dim()]
    std::vector<double> lse;  ///< [heads_q, judged queries]
};
/// `selection` covers all query tokens: [heads_q, tokens_q, routed()].
Attention attention_forward(const Problem& problem, const Rows& q, const Rows& k, const Rows& v,
                            const std::int32_t* selection, const Options& options = {});

struct AttentionGradients {
    std::vector<double> dq;      ///< [judged queries, heads_q, head_dim]
    std::vector<double> dk, dv;  ///< [tokens_k, heads_k, head_dim or value_dim()]; judged queries alone contribute
};
/// The forward pass is recomputed in double: no rounded out or lse enters.
AttentionGradients attention_backward(const Problem& problem, const Rows& q, const Rows& k, const Rows& v,
                                      const Rows& d_out, const std::int32_t* selection, const Options& options = {});

/// [tokens_k, heads_k, head_dim]; weight [heads_k, head_dim, width].
std::vector<double> key_conv_forward(const Problem& problem, const Rows& k, const std::vector<double>& weight,
                                     int width, int threads = 0);

struct ConvGradients {
    std::vector<double> dk;        ///< [tokens_k, heads_k, head_dim]
    std::vector<double> d_weight;  ///< [heads_k, head_dim, width]
};
ConvGradients key_conv_backward(const Problem& problem, const Rows& k, const std::vector<double>& weight, int width,
                                const Rows& d_out, int threads = 0);

}  // namespace mobalab::kernels::reference
