#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "experiments/measure/block_sums.h"
#include "experiments/measure/head_outcomes.h"
#include "experiments/measure/kernel_head.h"
#include "experiments/measure/router.h"

namespace mobalab::experiments {

/// Scores of every block, as a router has them: of the kernels' scorers from their own summaries, of reference routers
/// from block sums.
class BlockScores {
public:
    /// `summaries` are empty for a reference router.
    BlockScores(const Router& router, const ScoreSetting& setting, const Summaries& summaries)
        : router_(router), setting_(setting), summaries_(summaries) {}

    /// [rows, blocks] for the blocks that some row of the window has as candidates; what is no candidate of its row
    /// holds no score. Products are fp32.
    std::vector<double> of(const RowWindow& window, const BlockSums& blocks) const;

private:
    std::vector<double> by_kernel(const RowWindow& window, std::int64_t blocks) const;
    std::vector<double> by_reference(const RowWindow& window, const BlockSums& blocks) const;

    const Router& router_;
    const ScoreSetting& setting_;
    const Summaries& summaries_;
};

/// The `slots` blocks of the highest scores, best first, -1 behind the last candidate; the higher block of equals.
/// keep_first: block 0 first, with score infinity. `kept_scores` gets their scores, -inf where there is none.
void rank_blocks(std::span<const double> scores, bool keep_first, std::span<std::int32_t> blocks,
                 std::span<float> kept_scores);

}  // namespace mobalab::experiments
