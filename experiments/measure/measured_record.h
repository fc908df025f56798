#pragma once

#include <optional>
#include <string>
#include <vector>

#include "experiments/measure/head_summary.h"

namespace mobalab::experiments {

/// The settings of one head as a line of a journal; the same numbers come back.
std::string record_of(const std::vector<MeasuredSetting>& settings);

/// Inverse; nothing for a record that is not one of so many settings.
std::optional<std::vector<MeasuredSetting>> settings_of(const std::string& record, std::size_t count);

}  // namespace mobalab::experiments
