#include "experiments/measure/block_scores.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace mobalab::experiments {
namespace {

FloatRows mapped(kernels::QueryMap map, Eigen::Ref<const FloatRows> q) {
    return q.unaryExpr([map](float value) { return kernels::map_query(map, value); });
}

}  // namespace

std::vector<double> BlockScores::of(const RowWindow& window, const BlockSums& blocks) const {
    return router_.score != nullptr ? by_reference(window, blocks)
                                    : by_kernel(window, blocks.candidates(blocks.rows() - 1));
}

std::vector<double> BlockScores::by_kernel(const RowWindow& window, std::int64_t blocks) const {
    const kernels::ScorerDefinition& scorer = *kernels::find_scorer(*router_.scorer);
    const std::int64_t sub_blocks = blocks * setting_.sub_blocks;
    FloatRows scores = FloatRows::Zero(window.q.rows(), sub_blocks);
    for (int part = 0; part < scorer.parts; ++part) {
        const auto at = static_cast<std::size_t>(part);
        scores.noalias() +=
            mapped(scorer.part[at].map, window.q) * summaries_.parts[at].topRows(sub_blocks).transpose();
    }
    std::vector<double> best(static_cast<std::size_t>(window.q.rows() * blocks));
    for (std::int64_t r = 0; r < window.q.rows(); ++r) {
        for (std::int64_t j = 0; j < blocks; ++j) {
            best[static_cast<std::size_t>(r * blocks + j)] =
                scores.row(r).segment(j * setting_.sub_blocks, setting_.sub_blocks).maxCoeff();
        }
    }
    return best;
}

std::vector<double> BlockScores::by_reference(const RowWindow& window, const BlockSums& blocks) const {
    const std::int64_t most = blocks.candidates(blocks.rows() - 1);
    std::vector<double> scores(static_cast<std::size_t>(blocks.rows() * most));
    BlockView view{.keys = blocks.block_size(), .scale = window.scale};
    for (std::int64_t r = 0; r < blocks.rows(); ++r) {
        const auto mass = blocks.mass(r);
        const auto sum = blocks.sum(r);
        const auto squares = blocks.sum_squares(r);
        for (std::size_t j = 0; j < mass.size(); ++j) {
            view.block = static_cast<std::int64_t>(j);
            view.mass = mass[j];
            view.sum = sum[j];
            view.sum_squares = squares[j];
            scores[static_cast<std::size_t>(r * most) + j] = router_.score(view);
        }
    }
    return scores;
}

void rank_blocks(std::span<const double> scores, bool keep_first, std::span<std::int32_t> blocks,
                 std::span<float> kept_scores) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    std::fill(blocks.begin(), blocks.end(), -1);
    std::fill(kept_scores.begin(), kept_scores.end(), -infinity);
    const std::size_t first = keep_first && !scores.empty() && !blocks.empty() ? 1 : 0;
    if (first == 1) {
        blocks[0] = 0;
        kept_scores[0] = infinity;
    }
    std::vector<std::int32_t> order(scores.size() - first);
    std::iota(order.begin(), order.end(), static_cast<std::int32_t>(first));
    const std::size_t ranked = std::min(order.size(), blocks.size() - first);
    const auto score = [&](std::int32_t block) { return scores[static_cast<std::size_t>(block)]; };
    std::partial_sort(
        order.begin(), order.begin() + static_cast<std::ptrdiff_t>(ranked), order.end(),
        [&](std::int32_t a, std::int32_t b) { return score(a) != score(b) ? score(a) > score(b) : a > b; });
    for (std::size_t slot = 0; slot < ranked; ++slot) {
        blocks[first + slot] = order[slot];
        kept_scores[first + slot] = static_cast<float>(score(order[slot]));
    }
}

}  // namespace mobalab::experiments
