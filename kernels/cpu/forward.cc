// Attention forward. A task owns a chunk of queries and walks the blocks in ascending order; the queries of a chunk
// that attend to a block are gathered into dense tiles, and an online softmax merges the blocks of a query in that
// order.
#include <cmath>
#include <limits>

#include "kernels/cpu/block_tile.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/operations.h"
#include "kernels/cpu/parallel.h"

namespace mobalab::kernels::cpu {
namespace {

using Eigen::ArrayXf;

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

/// One thread's scratch.
class ForwardWorker {
public:
    ForwardWorker(const Problem& p) : tile_(p), product_(tile_rows, p.value_dim()) {}

    void run(const Problem& p, ConstTensor q, ConstTensor k, ConstTensor v, const std::int32_t* selection,
             const Sequence& s, const QueryChunk& chunk, Tensor out, float* lse) {
        const Index rows = chunk.last_row - chunk.first_row;
        highest_ = ArrayXf::Constant(rows, minus_infinity);
        sum_ = ArrayXf::Zero(rows);
        if (total_.rows() < rows) total_.resize(rows, p.value_dim());
        total_.topRows(rows).setZero();

        const std::int32_t* entries = selection + (chunk.head * p.tokens_q() + s.q_begin) * p.routed();
        const BlockLists lists = block_lists(s, entries, p.routed(), chunk.first_row, chunk.last_row);
        for (Index block = 0; block < s.blocks; ++block) {
            bool loaded = false;
            for_each_span(s, lists, block, chunk.first_row, chunk.last_row, [&](const RowSpan& span) {
                if (!loaded) tile_.load(p, k, v, s, chunk.head / (p.heads_q / p.heads_k), block);
                loaded = true;
                tile_.score(p, q, s, chunk.head, span);
                add(span, chunk.first_row);
            });
        }
        write(p, s, chunk, out, lse);
    }

private:
    /// Softmax of one tile, merged into the totals of its queries.
    void add(const RowSpan& span, Index first_row) {
        auto scores = tile_.scores_view(span);
        const ArrayXf tile_highest = scores.rowwise().maxCoeff();
        exp_minus(scores, tile_highest);
        const ArrayXf tile_sum = scores.rowwise().sum();
        auto product = product_.topRows(span.padded);
        product.noalias() = scores * tile_.values_view();

        ArrayXf before = ArrayXf::Zero(span.padded);
        for (Index i = 0; i < span.count; ++i) before[i] = highest_[span.rows[i] - first_row];
        const ArrayXf after = before.max(tile_highest);
        const ArrayXf keep = exp_non_positive(before - after);
        const ArrayXf take = exp_non_positive(tile_highest - after);
        for (Index i = 0; i < span.count; ++i) {
            const Index row = span.rows[i] - first_row;
            highest_[row] = after[i];
            sum_[row] = sum_[row] * keep[i] + tile_sum[i] * take[i];
            total_.row(row) = total_.row(row) * keep[i] + product.row(i) * take[i];
        }
    }

    void write(const Problem& p, const Sequence& s, const QueryChunk& chunk, Tensor out, float* lse) {
        const Tensor out_rows = queries_of(s, out, p.dtype);
        for (Index i = 0; i < chunk.last_row - chunk.first_row; ++i) {
            const Index row = chunk.first_row + i;
            const bool sees_keys = sum_[i] != 0.0F;  // a row of a tile has a sum of at least 1, or NaN
            if (sees_keys) total_.row(i) /= sum_[i];
            write_row(row_address(out_rows, p.dtype, row, chunk.head), p.dtype, total_.cols(), total_.row(i).data());
            lse[chunk.head * p.tokens_q() + s.q_begin + row] =
                sees_keys ? highest_[i] + std::log(sum_[i]) : std::numeric_limits<float>::infinity();
        }
    }

    BlockTile tile_;
    RowTile product_;
    RowTile total_;          ///< [rows of the chunk, value_dim()]: sum of exp(score - highest) * value
    ArrayXf highest_, sum_;  ///< of every row so far
};

}  // namespace

Status attention_forward(const Problem& p, ConstTensor q, ConstTensor k, ConstTensor v, const std::int32_t* selection,
                         Tensor out, float* lse, const Execution& execution) {
    const std::vector<Sequence> sequences = sequences_of(p);
    const std::vector<QueryChunk> chunks = query_chunks(p, sequences, execution.threads);
    parallel_for_workers(static_cast<Index>(chunks.size()), execution.threads, [&]() -> Task {
        return [&, worker = ForwardWorker(p)](Index i) mutable {
            const QueryChunk& chunk = chunks[static_cast<std::size_t>(i)];
            worker.run(p, q, k, v, selection, sequences[static_cast<std::size_t>(chunk.sequence)], chunk, out, lse);
        };
    });
    return {};
}

}  // namespace mobalab::kernels::cpu
