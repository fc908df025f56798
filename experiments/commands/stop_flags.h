#pragma once

#include <optional>
#include <vector>

#include "experiments/cli/subcommand.h"
#include "experiments/results/results_file.h"
#include "sim/engine/engine.h"

namespace mobalab::experiments {

/// --trials, --max-misses, --target-relative-error, --max-seconds.
std::vector<Flag> stop_flags();
sim::StopRule stop_rule(const Arguments& arguments);

/// `arguments` with the stop rules that `found` was made with; nothing when its settings do not tell them.
std::optional<Arguments> with_stop_rules_of(const Results& found, const Arguments& arguments);

}  // namespace mobalab::experiments
