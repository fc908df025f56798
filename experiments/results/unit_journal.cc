#include "experiments/results/unit_journal.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <sstream>

namespace mobalab::experiments {

std::optional<std::vector<std::int64_t>> UnitJournal::find(std::int64_t unit) const {
    if (output_ == nullptr) {
        return std::nullopt;
    }
    const auto found = output_->records().find(unit);
    if (found == output_->records().end()) {
        return std::nullopt;
    }
    std::istringstream text(found->second);
    std::vector<std::int64_t> counts;
    for (std::int64_t count = 0; text >> count;) {
        counts.push_back(count);
    }
    return counts;
}

void UnitJournal::record(std::int64_t unit, const std::vector<std::int64_t>& counts) {
    if (output_ != nullptr) {
        output_->record(unit, fmt::format("{}", fmt::join(counts, " ")));
    }
}

}  // namespace mobalab::experiments
