#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "experiments/measure/head_tensors.h"
#include "experiments/measure/kernel_head.h"
#include "experiments/measure/setting_groups.h"

namespace mobalab::experiments {

/// The settings of one scored group, and the blocks of the largest topk of each of its routed groups: one slot more
/// than is kept, for the best block left out.
struct GroupSelections {
    ScoredGroup group;
    Summaries summaries;                ///< of the kernels' scorers that have some
    std::vector<Selection> selections;  ///< of each RoutedGroup; a reference router's are still to be filled
    std::vector<Selection> unrounded;   ///< of each RoutedGroup with Centroids::fp32; none where nothing is rounded
};

/// Throws KernelError.
GroupSelections select_blocks(ScoredGroup group, const HeadTensors& head, const KernelHead& kernel);

/// The first `slots` slots of a row.
std::span<const std::int32_t> kept(const Selection& selection, std::size_t row, std::int64_t slots);

/// Whether both hold the same blocks in any order.
bool same_set(std::span<const std::int32_t> a, std::span<const std::int32_t> b);

/// RowOutcomes::margin of a row that keeps `slots` slots and whose scores have this deviation.
float margin_of(const Selection& selection, std::size_t row, std::int64_t slots, bool keep_first, float deviation);

}  // namespace mobalab::experiments
