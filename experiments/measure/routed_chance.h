#pragma once

#include <cstdint>
#include <span>

#include "experiments/measure/head_outcomes.h"

namespace mobalab::experiments {

/// What one row routes. Of scorer random it is the expectation over its draws: K of the candidates, each equally
/// likely.
class RoutedRow {
public:
    /// `row` of the outcomes of `setting`; the row has at least one candidate.
    RoutedRow(const RouteSetting& setting, bool by_chance, const HeadOutcomes& outcomes, const RowOutcomes& routed,
              std::size_t row);

    double mass() const { return mass_; }
    double mass_no0() const { return mass_no0_; }
    double chance(std::int64_t block) const;  ///< that the block is routed: 0 or 1, or a probability

private:
    std::span<const std::int32_t> selection_;
    bool by_chance_;
    double first_ = 0.0;   ///< chance of block 0
    double others_ = 0.0;  ///< and of any other
    double mass_, mass_no0_;
};

}  // namespace mobalab::experiments
