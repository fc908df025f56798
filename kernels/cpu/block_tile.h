#pragma once

#include <vector>

#include "kernels/cpu/lists.h"
#include "kernels/cpu/sequences.h"
#include "kernels/cpu/tile.h"

namespace mobalab::kernels::cpu {

/// Queries of one head that attend to one block, at most tile_rows of them.
struct RowSpan {
    const std::int32_t* rows;  ///< rows of the sequence, ascending
    Index count;
    Index padded;  ///< rounded up to row_quantum
    bool own;      ///< it is their own block: keys after a row's position are hidden
};

/// Calls visit(RowSpan) for the rows routed to `block`, then for the rows in [first_row, last_row) whose own block it
/// is.
template <typename Visit>
void for_each_span(const Sequence& s, const BlockLists& lists, Index block, Index first_row, Index last_row,
                   const Visit& visit) {
    const auto visit_all = [&](const std::int32_t* rows, Index count, bool own) {
        for (Index i = 0; i < count; i += tile_rows) {
            const Index n = std::min(tile_rows, count - i);
            visit(RowSpan{rows + i, n, round_up(n, row_quantum), own});
        }
    };
    const Index begin = lists.begin[static_cast<std::size_t>(block)];
    visit_all(lists.rows.data() + begin, lists.begin[static_cast<std::size_t>(block) + 1] - begin, false);
    if (!s.causal) return;
    const Index shift = s.keys - s.queries;
    std::vector<std::int32_t> own;
    for (Index row = std::max(first_row, block * s.block_size - shift);
         row < std::min(last_row, (block + 1) * s.block_size - shift); ++row) {
        own.push_back(static_cast<std::int32_t>(row));
    }
    visit_all(own.data(), static_cast<Index>(own.size()), true);
}

/// One block's keys and values in fp32, zero rows up to `padded`, and the scores of up to tile_rows queries against it.
struct BlockTile {
    explicit BlockTile(const Problem& p);

    void load(const Problem& p, ConstTensor k, ConstTensor v, const Sequence& s, Index head, Index block_number);

    /// queries: scaled by the softmax scale; fills `queries` and `scores` = queries . keys, -inf where a key is hidden.
    void score(const Problem& p, ConstTensor q, const Sequence& s, Index head, const RowSpan& span);

    auto keys_view() const { return keys.topRows(padded); }
    auto values_view() const { return values.topRows(padded); }
    auto queries_view(const RowSpan& span) const { return queries.topRows(span.padded); }
    auto scores_view(const RowSpan& span) { return scores.topLeftCorner(span.padded, padded); }

    float scale;
    Index block = 0, length = 0, padded = 0;
    RowTile keys, values, queries;
    ScoreTile scores;

private:
    void hide(const Sequence& s, const RowSpan& span);
};

/// exp(x) for x <= 0; exactly 0 at -inf and below about -87, so never a (slow) subnormal number. The length is a
/// multiple of row_quantum, or bits could depend on the position.
Eigen::ArrayXf exp_non_positive(const Eigen::Ref<const Eigen::ArrayXf>& x);

/// values = exp(values - row), with one entry of `row` a query.
void exp_minus(Eigen::Ref<ScoreTile> values, const Eigen::Ref<const Eigen::ArrayXf>& row);

/// The queries of one (sequence, query head) that one task of a query-major pass accumulates.
struct QueryChunk {
    Index sequence, head, first_row, last_row;
};

/// Chunks are long enough that the list of a block fills a tile, and short enough to keep the threads busy.
std::vector<QueryChunk> query_chunks(const Problem& p, const std::vector<Sequence>& sequences, int threads);

}  // namespace mobalab::kernels::cpu
