// The key convolution k'_t = k_t + silu(z_t), z_t = sum over lags of w_l k_{t-l}, and its gradients:
// dz = dk' silu'(z), dk_t = dk'_t + sum over lags of w_l dz_{t+l}, dw_l = sum over t of dz_t k_{t-l}.
#include <Eigen/Core>
#include <vector>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/operations.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/sequences.h"

namespace mobalab::kernels::cpu {
namespace {

using Eigen::ArrayXf;
using Columns = Eigen::Array<float, Eigen::Dynamic, Eigen::Dynamic>;  // one token or lag a column

constexpr std::int64_t tokens_per_task = 512;

struct Span {
    const Sequence* sequence;
    std::int64_t head, first, last;  ///< tokens of the sequence
};

std::vector<Span> spans_of(const Problem& p, const std::vector<Sequence>& sequences) {
    std::vector<Span> spans;
    for (const Sequence& s : sequences) {
        for (std::int64_t head = 0; head < p.heads_k; ++head) {
            for (std::int64_t t = 0; t < s.keys; t += tokens_per_task) {
                spans.push_back({&s, head, t, std::min(s.keys, t + tokens_per_task)});
            }
        }
    }
    return spans;
}

/// Weights of one head, one lag a column.
Columns load_weights(const Problem& p, const float* weight, int width, std::int64_t head) {
    return Eigen::Map<const Columns>(weight + head * p.head_dim * width, width, p.head_dim).transpose();
}

/// Tokens [first, last) of one head; those outside the sequence are zero.
Columns load_tokens(const Problem& p, ConstTensor tensor, const Span& span, std::int64_t first, std::int64_t last) {
    Columns columns = Columns::Zero(p.head_dim, last - first);
    const ConstTensor keys = keys_of(*span.sequence, tensor, p.dtype);
    for (std::int64_t t = std::max<std::int64_t>(0, first); t < std::min(last, span.sequence->keys); ++t) {
        read_row(row_address(keys, p.dtype, t, span.head), p.dtype, p.head_dim, columns.col(t - first).data());
    }
    return columns;
}

/// z of the token at column `at` of `keys`.
ArrayXf convolve(const Columns& keys, const Columns& weights, std::int64_t at) {
    ArrayXf z = ArrayXf::Zero(keys.rows());
    for (std::int64_t lag = 0; lag < weights.cols(); ++lag) z += weights.col(lag) * keys.col(at - lag);
    return z;
}

ArrayXf sigmoid(const ArrayXf& z) {
    return (1.0F + (-z).exp()).inverse();
}

void store(const Problem& p, Tensor tensor, const Span& span, std::int64_t t, const ArrayXf& row) {
    const Tensor keys = keys_of(*span.sequence, tensor, p.dtype);
    write_row(row_address(keys, p.dtype, t, span.head), p.dtype, p.head_dim, row.data());
}

/// Gradients of one span; returns its share of d_weight, one lag a column.
Eigen::ArrayXXd backward_span(const Problem& p, ConstTensor k, const Columns& weights, ConstTensor d_out, Tensor dk,
                              const Span& span) {
    const std::int64_t halo = weights.cols() - 1;
    // dk of the last token reads dz of up to `halo` tokens after it, and these read keys up to `halo` before them.
    const Columns keys = load_tokens(p, k, span, span.first - halo, span.last + halo);
    const Columns upper = load_tokens(p, d_out, span, span.first, span.last + halo);
    Columns dz(p.head_dim, upper.cols());
    for (std::int64_t i = 0; i < dz.cols(); ++i) {
        const ArrayXf z = convolve(keys, weights, i + halo);
        const ArrayXf s = sigmoid(z);
        dz.col(i) = upper.col(i) * s * (1.0F + z * (1.0F - s));
    }
    Eigen::ArrayXXd d_weight = Eigen::ArrayXXd::Zero(p.head_dim, weights.cols());
    for (std::int64_t i = 0; i < span.last - span.first; ++i) {
        ArrayXf row = upper.col(i);
        for (std::int64_t lag = 0; lag <= halo; ++lag) {
            row += weights.col(lag) * dz.col(i + lag);
            d_weight.col(lag) += (dz.col(i) * keys.col(i + halo - lag)).cast<double>();
        }
        store(p, dk, span, span.first + i, row);
    }
    return d_weight;
}

}  // namespace

Status key_conv_forward(const Problem& p, ConstTensor k, const float* weight, int width, Tensor out,
                        const Execution& execution) {
    const std::vector<Sequence> sequences = key_sequences_of(p);
    const std::vector<Span> spans = spans_of(p, sequences);
    parallel_for(static_cast<std::int64_t>(spans.size()), execution.threads, [&](std::int64_t i) {
        const Span& span = spans[static_cast<std::size_t>(i)];
        const std::int64_t halo = width - 1;
        const Columns weights = load_weights(p, weight, width, span.head);
        const Columns keys = load_tokens(p, k, span, span.first - halo, span.last);
        for (std::int64_t t = span.first; t < span.last; ++t) {
            const std::int64_t at = t - span.first + halo;
            const ArrayXf z = convolve(keys, weights, at);
            store(p, out, span, t, keys.col(at) + z * sigmoid(z));
        }
    });
    return {};
}

Status key_conv_backward(const Problem& p, ConstTensor k, const float* weight, int width, ConstTensor d_out, Tensor dk,
                         float* d_weight, const Execution& execution) {
    const std::vector<Sequence> sequences = key_sequences_of(p);
    const std::vector<Span> spans = spans_of(p, sequences);
    std::vector<Eigen::ArrayXXd> shares(spans.size());
    parallel_for(static_cast<std::int64_t>(spans.size()), execution.threads, [&](std::int64_t i) {
        const Span& span = spans[static_cast<std::size_t>(i)];
        shares[static_cast<std::size_t>(i)] =
            backward_span(p, k, load_weights(p, weight, width, span.head), d_out, dk, span);
    });
    for (std::int64_t head = 0; head < p.heads_k; ++head) {
        Eigen::ArrayXXd sum = Eigen::ArrayXXd::Zero(p.head_dim, width);
        for (std::size_t i = 0; i < spans.size(); ++i) {
            if (spans[i].head == head) sum += shares[i];
        }
        Eigen::Map<Columns>(d_weight + head * p.head_dim * width, width, p.head_dim) = sum.transpose().cast<float>();
    }
    return {};
}

}  // namespace mobalab::kernels::cpu
