#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/sequences.h"
#include "kernels/cpu/tile.h"

namespace mobalab::kernels::cpu {

/// What the queries of one (sequence, key head) are held against: a row for each sub-block, its parts side by side.
/// Zero rows up to a multiple of column_quantum; empty for a scorer without parts. `centroids` as compute_centroids()
/// writes it.
RowTile load_summaries(const Problem& problem, const void* centroids, const Sequence& sequence, Index head);

/// Scores of a tile of queries against blocks, by the problem's scorer; one thread's scratch.
class BlockScores {
public:
    /// Blocks of one tile: 240 x 512 fp32 scores and 512 summaries stay in a core's L2.
    static constexpr Index most_blocks = 512;

    explicit BlockScores(const Problem& problem);

    /// The queries that the next scores are of: at most tile_rows rows of a sequence, from `first_row` on.
    void load(ConstTensor q, const Sequence& sequence, Index head, Index first_row, Index rows);

    /// Scores of blocks first, ..., first + count - 1 of the sequence; `first` is a multiple of most_blocks, `count` at
    /// most that. Rows and columns are rounded up to their quanta; what stands in the padding has no meaning. Good
    /// until the next call.
    Eigen::Ref<ScoreTile> score(const RowTile& summaries, Index first, Index count);

private:
    const RowTile& factor() const { return mapped_.rows() == 0 ? queries_ : mapped_; }
    void hash_blocks(Eigen::Ref<ScoreTile> scores, Index first) const;
    void best_of_sub_blocks(Eigen::Ref<ScoreTile> scores, const RowTile& summaries, Index first, Index count);

    const Problem& problem_;
    const ScorerDefinition& scorer_;
    RowTile queries_;
    RowTile mapped_;  ///< phi of the queries, part beside part; unused where that is the queries themselves
    std::vector<std::uint64_t> hashes_;  ///< of the queries, for a scorer without parts
    ScoreTile scores_, sub_scores_;
    Index padded_ = 0;
    Index sub_blocks_ = 0;  ///< of the sequence that have keys: an empty one is no part of its block
};

}  // namespace mobalab::kernels::cpu
