#include "experiments/measure/routed_chance.h"

#include <algorithm>

namespace mobalab::experiments {

RoutedRow::RoutedRow(const RouteSetting& setting, bool by_chance, const HeadOutcomes& outcomes,
                     const RowOutcomes& routed, std::size_t row)
    : selection_(std::span(routed.selection)
                     .subspan(row * static_cast<std::size_t>(routed.slots), static_cast<std::size_t>(routed.slots))),
      by_chance_(by_chance),
      mass_(routed.routed_mass[row]),
      mass_no0_(routed.routed_mass_no0[row]) {
    if (!by_chance) {
        return;
    }
    const std::int64_t block_size = setting.score.block_size;
    const auto candidates = static_cast<double>((outcomes.q_start + static_cast<std::int64_t>(row)) / block_size);
    const auto slots = static_cast<double>(setting.topk - 1);
    const bool first_is_kept = setting.keep_first && slots > 0.0;
    first_ = first_is_kept ? 1.0 : std::min(1.0, slots / candidates);
    others_ = first_is_kept && candidates > 1.0 ? std::min(1.0, (slots - 1.0) / (candidates - 1.0)) : first_;
    const BlockOutcomes& blocks = outcomes.blocks.at(block_size);
    mass_ = blocks.first_mass[row] * first_ + (blocks.past_mass[row] - blocks.first_mass[row]) * others_;
    mass_no0_ =
        blocks.first_mass_no0[row] * first_ + (blocks.past_mass_no0[row] - blocks.first_mass_no0[row]) * others_;
}

double RoutedRow::chance(std::int64_t block) const {
    if (by_chance_) {
        return block == 0 ? first_ : others_;
    }
    return std::find(selection_.begin(), selection_.end(), block) != selection_.end() ? 1.0 : 0.0;
}

}  // namespace mobalab::experiments
