#include "kernels/cpu/block_tile.h"

#include <limits>

#include "kernels/cpu/parallel.h"

namespace mobalab::kernels::cpu {
namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

/// Just above the logarithm of the smallest normal number.
constexpr float lowest_exponent = -87.0F;

constexpr Index least_chunk = 1024;
constexpr Index most_chunk = 65536;
constexpr Index rows_per_list = 120;

template <typename Array>
auto exp_floored(const Array& x, float floor) {
    return x.max(lowest_exponent).exp() - floor;
}

/// exp(lowest_exponent) by the same vector code as the rest, so that the difference is exactly 0.
float exp_floor() {
    static const float floor = Eigen::ArrayXf::Constant(row_quantum, lowest_exponent).exp().eval()[0];
    return floor;
}

}  // namespace

BlockTile::BlockTile(const Problem& p)
    : scale(static_cast<float>(p.softmax_scale())),
      keys(round_up(std::min(p.block_size, p.seqlen_k), column_quantum), p.head_dim),
      values(keys.rows(), p.value_dim()),
      queries(tile_rows, p.head_dim),
      scores(tile_rows, keys.rows()) {}

void BlockTile::load(const Problem& p, ConstTensor k, ConstTensor v, const Sequence& s, Index head,
                     Index block_number) {
    block = block_number;
    length = s.block_length(block);
    padded = round_up(length, column_quantum);
    load_rows(keys_of(s, k, p.dtype), p.dtype, block * p.block_size, length, head, 1.0F, padded, keys);
    load_rows(keys_of(s, v, p.dtype), p.dtype, block * p.block_size, length, head, 1.0F, padded, values);
}

void BlockTile::score(const Problem& p, ConstTensor q, const Sequence& s, Index head, const RowSpan& span) {
    load_rows(queries_of(s, q, p.dtype), p.dtype, span.rows, span.count, head, scale, span.padded, queries);
    scores_view(span).noalias() = queries_view(span) * keys_view().transpose();
    hide(s, span);
}

void BlockTile::hide(const Sequence& s, const RowSpan& span) {
    scores_view(span).rightCols(padded - length).setConstant(minus_infinity);
    if (!span.own) return;
    for (Index i = 0; i < span.count; ++i) {
        const Index visible = s.position(span.rows[i]) + 1 - block * s.block_size;
        scores.row(i).segment(visible, padded - visible).setConstant(minus_infinity);
    }
}

Eigen::ArrayXf exp_non_positive(const Eigen::Ref<const Eigen::ArrayXf>& x) {
    return exp_floored(x, exp_floor());
}

void exp_minus(Eigen::Ref<ScoreTile> values, const Eigen::Ref<const Eigen::ArrayXf>& row) {
    const float floor = exp_floor();
    for (Index column = 0; column < values.cols(); ++column) {
        values.col(column).array() = exp_floored(values.col(column).array() - row, floor);
    }
}

std::vector<QueryChunk> query_chunks(const Problem& p, const std::vector<Sequence>& sequences, int threads) {
    std::vector<QueryChunk> chunks;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
        const Sequence& s = sequences[i];
        const Index filling = rows_per_list * s.blocks / (p.routed() + 1);
        const Index shared = s.queries * p.heads_q / (2 * resolve_threads(threads));
        const Index wanted = std::clamp(std::min(filling, shared), least_chunk, most_chunk);
        const Index count = (s.queries + wanted - 1) / wanted;
        for (Index head = 0; head < p.heads_q; ++head) {
            for (Index c = 0; c < count; ++c) {
                chunks.push_back({static_cast<Index>(i), head, c * s.queries / count, (c + 1) * s.queries / count});
            }
        }
    }
    return chunks;
}

}  // namespace mobalab::kernels::cpu
