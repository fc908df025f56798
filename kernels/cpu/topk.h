#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/tile.h"

namespace mobalab::kernels::cpu {

/// Exact top-k of many rows whose scores come in tiles: higher score first, then higher block; NaN before
/// every number. A score of -inf is no candidate.
///
/// A tile is read twice. First the k-th largest of the maxima of groups of 8 blocks gives each row a threshold that at
/// least k scores reach (16 rows at a time, no branches); then the few scores that reach it are collected.
class TopK {
public:
    TopK(Index rows, Index kept) : kept_(kept), best_(static_cast<std::size_t>(rows)) {}

    void clear();

    /// Columns of `scores` are blocks first_block, first_block + 1, ...; row r looks at blocks below candidates[r]
    /// only. The first `rows` rows count, the tile has whole groups of 16 rows and 8 columns.
    void add(const Eigen::Ref<const ScoreTile>& scores, Index first_block, const std::vector<Index>& candidates,
             Index rows);

    /// Writes `kept` blocks (-1 past the end) and scores (-inf past it; may be null), best first.
    void write(Index row, std::int32_t* blocks, float* scores);

private:
    /// Score and block as one integer that orders as (score, block) does.
    using Key = std::uint64_t;
    static constexpr Index lanes = 16;
    static constexpr Index group = column_quantum;

    void find_thresholds(const Eigen::Ref<const ScoreTile>& scores, Index first_row);
    void mark_survivors(const Eigen::Ref<const ScoreTile>& scores, Index first_row);
    void collect(const Eigen::Ref<const ScoreTile>& scores, Index row, Index first_block, Index candidates);

    Index kept_;
    std::vector<std::vector<Key>> best_;
    using Lanes = Eigen::Array<float, lanes, 1>;
    std::vector<Lanes> sorted_;  ///< [kept]: largest group maxima of 16 rows
    Lanes threshold_;
    std::vector<std::uint32_t> marks_;  ///< [columns / 32][lanes]: bit c % 32 is set where column c survives
};

}  // namespace mobalab::kernels::cpu
