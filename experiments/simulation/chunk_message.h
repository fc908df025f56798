#pragma once

#include <string>
#include <vector>

#include "sim/engine/trial_stats.h"

namespace mobalab::experiments {

/// Counts of the chunks of one point as a message between ranks, and back. Throws std::runtime_error when it is none.
std::string bytes_of(const std::vector<sim::TrialStats>& chunks);
std::vector<sim::TrialStats> stats_of(const std::string& bytes);

}  // namespace mobalab::experiments
