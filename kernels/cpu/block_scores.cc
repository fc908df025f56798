#include "kernels/cpu/block_scores.h"

#include <algorithm>
#include <limits>

#include "kernels/cpu/convert.h"
#include "kernels/scorers/hash_score.h"

namespace mobalab::kernels::cpu {
namespace {

/// Whether phi(q) is q.
bool maps_nothing(const ScorerDefinition& scorer) {
    return scorer.parts == 1 && scorer.part[0].map == QueryMap::identity;
}

/// A NaN is taken and never let go.
void keep_larger(const float* scores, Index count, float* best) {
    for (Index i = 0; i < count; ++i) {
        const bool taken = scores[i] > best[i] || scores[i] != scores[i];
        best[i] = taken ? scores[i] : best[i];
    }
}

}  // namespace

RowTile load_summaries(const Problem& p, const void* centroids, const Sequence& s, Index head) {
    const ScorerDefinition& scorer = *find_scorer(p.scorer.kind);
    if (scorer.parts == 0) return {};
    const Index d = p.head_dim;
    const Index rows = s.blocks * p.scorer.sub_blocks;
    const Index padded = round_up(rows, column_quantum);
    const ConstTensor all_parts = {centroids, p.heads_k * d, scorer.parts * p.heads_k * d, d};
    RowTile part(padded, d);
    const auto load_part = [&](int number) {
        const DataType dtype = p.centroid_dtype();
        load_rows(from_token(all_parts, dtype, number, 0), dtype, s.block_begin * p.scorer.sub_blocks, rows, head, 1.0F,
                  padded, part);
    };
    if (scorer.parts == 1) {
        load_part(0);
        return part;
    }
    RowTile tile(padded, scorer.parts * d);
    for (int number = 0; number < scorer.parts; ++number) {
        load_part(number);
        tile.middleCols(number * d, d) = part;
    }
    return tile;
}

BlockScores::BlockScores(const Problem& p)
    : problem_(p),
      scorer_(*find_scorer(p.scorer.kind)),
      queries_(tile_rows, p.head_dim),
      mapped_(maps_nothing(scorer_) ? 0 : tile_rows, scorer_.parts * p.head_dim),
      hashes_(scorer_.parts == 0 ? static_cast<std::size_t>(tile_rows) : 0),
      scores_(tile_rows, most_blocks),
      sub_scores_(p.scorer.sub_blocks > 1 ? tile_rows : 0, most_blocks) {}

void BlockScores::load(ConstTensor q, const Sequence& s, Index head, Index first_row, Index rows) {
    const Index length = s.block_size / problem_.scorer.sub_blocks;
    sub_blocks_ = (s.keys + length - 1) / length;
    padded_ = round_up(rows, row_quantum);
    if (scorer_.parts == 0) {
        for (Index r = 0; r < rows; ++r) {
            hashes_[static_cast<std::size_t>(r)] =
                hash_of_query(problem_.scorer.seed, s.number, head, s.position(first_row + r));
        }
        return;
    }
    load_rows(queries_of(s, q, problem_.dtype), problem_.dtype, first_row, rows, head, 1.0F, padded_, queries_);
    if (maps_nothing(scorer_)) return;
    const Index d = problem_.head_dim;
    for (int part = 0; part < scorer_.parts; ++part) {
        const QueryMap map = scorer_.part[static_cast<std::size_t>(part)].map;
        mapped_.block(0, part * d, padded_, d) =
            queries_.topRows(padded_).unaryExpr([map](float x) { return map_query(map, x); });
    }
}

Eigen::Ref<ScoreTile> BlockScores::score(const RowTile& summaries, Index first, Index count) {
    const Index columns = round_up(count, column_quantum);
    auto scores = scores_.topLeftCorner(padded_, columns);
    if (scorer_.parts == 0) {
        hash_blocks(scores, first);
    } else if (problem_.scorer.sub_blocks > 1) {
        best_of_sub_blocks(scores, summaries, first, count);
    } else {
        scores.noalias() = factor().topRows(padded_) * summaries.middleRows(first, columns).transpose();
    }
    return scores;
}

void BlockScores::hash_blocks(Eigen::Ref<ScoreTile> scores, Index first) const {
    for (Index column = 0; column < scores.cols(); ++column) {
        for (Index r = 0; r < scores.rows(); ++r) {
            scores(r, column) = hash_score(hashes_[static_cast<std::size_t>(r)], first + column);
        }
    }
}

/// Tiles of sub-blocks, as wide as one of blocks: where blocks have more of them than that, a block's best grows from
/// tile to tile. Tiles begin at multiples of column_quantum, so they end inside the padded summaries.
void BlockScores::best_of_sub_blocks(Eigen::Ref<ScoreTile> scores, const RowTile& summaries, Index first, Index count) {
    const Index per_block = problem_.scorer.sub_blocks;
    const Index last = std::min((first + count) * per_block, sub_blocks_);
    scores.setConstant(-std::numeric_limits<float>::infinity());
    for (Index begin = first * per_block; begin < last; begin += most_blocks) {
        const Index columns = std::min(most_blocks, last - begin);
        auto tile = sub_scores_.topLeftCorner(padded_, round_up(columns, column_quantum));
        tile.noalias() = factor().topRows(padded_) * summaries.middleRows(begin, tile.cols()).transpose();
        for (Index column = 0; column < columns; ++column) {
            keep_larger(tile.col(column).data(), padded_, scores.col((begin + column) / per_block - first).data());
        }
    }
}

}  // namespace mobalab::kernels::cpu
