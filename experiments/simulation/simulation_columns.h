#pragma once

#include <vector>

#include "experiments/results/results_file.h"
#include "experiments/simulation/simulation_plan.h"
#include "experiments/simulation/simulation_record.h"

namespace mobalab::experiments {

/// Columns method, method_reason, trials, misses, miss, low, high, stop_reason, seed of finished points.
std::vector<Column> simulation_columns(const SimulationPlan& plan, const std::vector<PointProgress>& points);

}  // namespace mobalab::experiments
