#include "experiments/measure/group_selections.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace mobalab::experiments {
namespace {

Selection empty_selection(const HeadTensors& head, std::int64_t block_size, std::int64_t topk) {
    const std::int64_t blocks = (head.q_start + head.q.rows + block_size - 1) / block_size;
    Selection selection{.slots = std::min(topk, blocks) - 1, .blocks = {}, .scores = {}};
    selection.blocks.resize(static_cast<std::size_t>(head.q.rows * selection.slots));
    selection.scores.resize(selection.blocks.size());
    return selection;
}

bool rounds(const ScoredGroup& group, kernels::DataType dtype) {
    return group.router->scorer && group.router->scored && dtype != kernels::DataType::fp32 &&
           group.score.centroids == kernels::Centroids::input_dtype;
}

}  // namespace

GroupSelections select_blocks(ScoredGroup group, const HeadTensors& head, const KernelHead& kernel) {
    GroupSelections work{.group = std::move(group), .summaries = {}, .selections = {}, .unrounded = {}};
    const ScoreSetting& score = work.group.score;
    const bool by_kernel = work.group.router->scorer.has_value();
    if (by_kernel && work.group.router->scored) {
        work.summaries = kernel.summaries(score);
    }
    for (const RoutedGroup& routed : work.group.routed) {
        const std::int64_t topk = routed.most_topk + 1;
        work.selections.push_back(by_kernel ? kernel.route(score, routed.keep_first, topk)
                                            : empty_selection(head, score.block_size, topk));
        if (rounds(work.group, head.q.dtype)) {
            ScoreSetting exact = score;
            exact.centroids = kernels::Centroids::fp32;
            work.unrounded.push_back(kernel.route(exact, routed.keep_first, topk));
        }
    }
    return work;
}

std::span<const std::int32_t> kept(const Selection& selection, std::size_t row, std::int64_t slots) {
    return std::span(selection.blocks)
        .subspan(row * static_cast<std::size_t>(selection.slots), static_cast<std::size_t>(slots));
}

bool same_set(std::span<const std::int32_t> a, std::span<const std::int32_t> b) {
    return std::is_permutation(a.begin(), a.end(), b.begin(), b.end());
}

float margin_of(const Selection& selection, std::size_t row, std::int64_t slots, bool keep_first, float deviation) {
    constexpr float none = std::numeric_limits<float>::quiet_NaN();
    const std::size_t at = row * static_cast<std::size_t>(selection.slots) + static_cast<std::size_t>(slots);
    const bool has_last = slots > (keep_first ? 1 : 0);
    if (!has_last || slots >= selection.slots || selection.blocks[at] < 0) {
        return none;
    }
    return (selection.scores[at - 1] - selection.scores[at]) / deviation;
}

}  // namespace mobalab::experiments
