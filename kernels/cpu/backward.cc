// Attention backward by recomputation, in two passes so that every sum has one owner and one order:
//   1. block-major: a task owns the dk and dv of one block of one key head and walks the queries that attend to it;
//   2. query-major: a task owns the dq of a chunk of queries and walks the blocks, as the forward pass does.
// With P = exp(scale q.k - lse), dP = d_out . v and D = d_out . out: dS = P (dP - D), dv = P^T d_out,
// dk = dS^T (scale q), dq = scale dS k.
#include <limits>

#include "kernels/cpu/block_tile.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/operations.h"
#include "kernels/cpu/parallel.h"

namespace mobalab::kernels::cpu {
namespace {

using Eigen::ArrayXf;

struct Arguments {
    const Problem& p;
    ConstTensor q, k, v, out, d_out;
    const float* lse;
    const std::int32_t* selection;
    std::vector<float> out_dot;  ///< D, [heads_q, tokens_q]

    Index row_of(Index head, Index token) const { return head * p.tokens_q() + token; }
    Index group() const { return p.heads_q / p.heads_k; }
};

/// P and dS of one tile.
class GradientTile {
public:
    explicit GradientTile(const Problem& p)
        : block(p), d_out(tile_rows, p.value_dim()), d_scores_(tile_rows, block.keys.rows()) {}

    auto d_scores_view(const RowSpan& span) { return d_scores_.topLeftCorner(span.padded, block.padded); }
    auto d_out_view(const RowSpan& span) const { return d_out.topRows(span.padded); }

    void compute(const Arguments& a, const Sequence& s, Index head, const RowSpan& span) {
        block.score(a.p, a.q, s, head, span);
        load_rows(queries_of(s, a.d_out, a.p.dtype), a.p.dtype, span.rows, span.count, head, 1.0F, span.padded, d_out);
        // Padding rows: lse = inf gives P = 0.
        ArrayXf lse = ArrayXf::Constant(span.padded, std::numeric_limits<float>::infinity());
        ArrayXf out_dot = ArrayXf::Zero(span.padded);
        for (Index i = 0; i < span.count; ++i) {
            const Index row = a.row_of(head, s.q_begin + span.rows[i]);
            lse[i] = a.lse[row];
            out_dot[i] = a.out_dot[static_cast<std::size_t>(row)];
        }
        auto probability = block.scores_view(span);
        exp_minus(probability, lse);
        auto d_scores = d_scores_view(span);
        d_scores.noalias() = d_out_view(span) * block.values_view().transpose();
        for (Index column = 0; column < block.padded; ++column) {
            d_scores.col(column).array() = probability.col(column).array() * (d_scores.col(column).array() - out_dot);
        }
    }

    BlockTile block;  ///< its scores become P
    RowTile d_out;

private:
    ScoreTile d_scores_;
};

void write_rows(const Problem& p, const RowTile& rows, Index begin, Index count, Index head, Tensor tensor) {
    for (Index i = 0; i < count; ++i) {
        write_row(row_address(tensor, p.dtype, begin + i, head), p.dtype, rows.cols(), rows.row(i).data());
    }
}

class KeyGradients {
public:
    explicit KeyGradients(const Problem& p) : tile_(p), dk_(tile_.block.keys), dv_(tile_.block.values) {}

    /// `lists` are those of the group's query heads.
    void run(const Arguments& a, const Sequence& s, const BlockLists* lists, Index head_k, Index block, Tensor dk,
             Tensor dv) {
        tile_.block.load(a.p, a.k, a.v, s, head_k, block);
        auto dk_sum = dk_.topRows(tile_.block.padded);
        auto dv_sum = dv_.topRows(tile_.block.padded);
        dk_sum.setZero();
        dv_sum.setZero();
        for (Index member = 0; member < a.group(); ++member) {
            for_each_span(s, lists[member], block, 0, s.queries, [&](const RowSpan& span) {
                tile_.compute(a, s, head_k * a.group() + member, span);
                dv_sum.noalias() += tile_.block.scores_view(span).transpose() * tile_.d_out_view(span);
                dk_sum.noalias() += tile_.d_scores_view(span).transpose() * tile_.block.queries_view(span);
            });
        }
        const Index begin = block * a.p.block_size;
        write_rows(a.p, dk_, begin, tile_.block.length, head_k, keys_of(s, dk, a.p.dtype));
        write_rows(a.p, dv_, begin, tile_.block.length, head_k, keys_of(s, dv, a.p.dtype));
    }

private:
    GradientTile tile_;
    RowTile dk_, dv_;
};

class QueryGradients {
public:
    explicit QueryGradients(const Problem& p) : tile_(p), product_(tile_rows, p.head_dim) {}

    void run(const Arguments& a, const Sequence& s, const QueryChunk& chunk, Tensor dq) {
        const Index rows = chunk.last_row - chunk.first_row;
        if (total_.rows() < rows) total_.resize(rows, a.p.head_dim);
        total_.topRows(rows).setZero();
        const std::int32_t* entries = a.selection + a.row_of(chunk.head, s.q_begin) * a.p.routed();
        const BlockLists lists = block_lists(s, entries, a.p.routed(), chunk.first_row, chunk.last_row);
        for (Index block = 0; block < s.blocks; ++block) {
            bool loaded = false;
            for_each_span(s, lists, block, chunk.first_row, chunk.last_row, [&](const RowSpan& span) {
                if (!loaded) tile_.block.load(a.p, a.k, a.v, s, chunk.head / a.group(), block);
                loaded = true;
                tile_.compute(a, s, chunk.head, span);
                auto product = product_.topRows(span.padded);
                product.noalias() = tile_.d_scores_view(span) * tile_.block.keys_view();
                for (Index i = 0; i < span.count; ++i) total_.row(span.rows[i] - chunk.first_row) += product.row(i);
            });
        }
        total_.topRows(rows) *= tile_.block.scale;
        write_rows(a.p, total_, chunk.first_row, rows, chunk.head, queries_of(s, dq, a.p.dtype));
    }

private:
    GradientTile tile_;
    RowTile product_, total_;
};

std::vector<float> out_dots(const Problem& p, const std::vector<Sequence>& sequences, ConstTensor out,
                            ConstTensor d_out, int threads) {
    std::vector<float> dots(static_cast<std::size_t>(p.heads_q * p.tokens_q()));
    parallel_for(p.heads_q, threads, [&](Index head) {
        ArrayXf a(p.value_dim());
        ArrayXf b(p.value_dim());
        for (const Sequence& s : sequences) {
            const ConstTensor out_rows = queries_of(s, out, p.dtype);
            const ConstTensor d_out_rows = queries_of(s, d_out, p.dtype);
            float* const of_sequence = dots.data() + head * p.tokens_q() + s.q_begin;
            for (Index row = 0; row < s.queries; ++row) {
                read_row(row_address(out_rows, p.dtype, row, head), p.dtype, a.size(), a.data());
                read_row(row_address(d_out_rows, p.dtype, row, head), p.dtype, b.size(), b.data());
                of_sequence[row] = (a * b).sum();
            }
        }
    });
    return dots;
}

struct KeyTask {
    Index sequence, head_k, block;
};

void key_pass(const Arguments& a, const std::vector<Sequence>& sequences, Tensor dk, Tensor dv, int threads) {
    std::vector<BlockLists> lists(sequences.size() * static_cast<std::size_t>(a.p.heads_q));
    parallel_for(static_cast<Index>(lists.size()), threads, [&](Index i) {
        const Sequence& s = sequences[static_cast<std::size_t>(i / a.p.heads_q)];
        const std::int32_t* entries = a.selection + a.row_of(i % a.p.heads_q, s.q_begin) * a.p.routed();
        lists[static_cast<std::size_t>(i)] = block_lists(s, entries, a.p.routed(), 0, s.queries);
    });
    std::vector<KeyTask> tasks;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
        for (Index head = 0; head < a.p.heads_k; ++head) {
            for (Index b = 0; b < sequences[i].blocks; ++b) tasks.push_back({static_cast<Index>(i), head, b});
        }
    }
    parallel_for_workers(static_cast<Index>(tasks.size()), threads, [&]() -> Task {
        return [&, worker = KeyGradients(a.p)](Index i) mutable {
            const KeyTask& task = tasks[static_cast<std::size_t>(i)];
            const BlockLists* group_lists = lists.data() + task.sequence * a.p.heads_q + task.head_k * a.group();
            worker.run(a, sequences[static_cast<std::size_t>(task.sequence)], group_lists, task.head_k, task.block, dk,
                       dv);
        };
    });
}

void query_pass(const Arguments& a, const std::vector<Sequence>& sequences, Tensor dq, int threads) {
    const std::vector<QueryChunk> chunks = query_chunks(a.p, sequences, threads);
    parallel_for_workers(static_cast<Index>(chunks.size()), threads, [&]() -> Task {
        return [&, worker = QueryGradients(a.p)](Index i) mutable {
            const QueryChunk& chunk = chunks[static_cast<std::size_t>(i)];
            worker.run(a, sequences[static_cast<std::size_t>(chunk.sequence)], chunk, dq);
        };
    });
}

}  // namespace

Status attention_backward(const Problem& p, ConstTensor q, ConstTensor k, ConstTensor v, ConstTensor out,
                          ConstTensor d_out, const float* lse, const std::int32_t* selection, Tensor dq, Tensor dk,
                          Tensor dv, const Execution& execution) {
    const std::vector<Sequence> sequences = sequences_of(p);
    std::vector<float> dots = out_dots(p, sequences, out, d_out, execution.threads);
    const Arguments arguments{p, q, k, v, out, d_out, lse, selection, std::move(dots)};
    key_pass(arguments, sequences, dk, dv, execution.threads);
    query_pass(arguments, sequences, dq, execution.threads);
    return {};
}

}  // namespace mobalab::kernels::cpu
