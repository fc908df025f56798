#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "experiments/results/resumable_output.h"

namespace mobalab::experiments {

/// Counts of finished units of work, by number, in the journal of an output; remembers nothing without one.
/// Not thread-safe.
class UnitJournal {
public:
    explicit UnitJournal(ResumableOutput* output) : output_(output) {}

    std::optional<std::vector<std::int64_t>> find(std::int64_t unit) const;
    void record(std::int64_t unit, const std::vector<std::int64_t>& counts);

private:
    ResumableOutput* output_;
};

}  // namespace mobalab::experiments
