#pragma once

#include <string>
#include <vector>

#include "experiments/measure/head_measurement.h"
#include "experiments/measure/measure_plan.h"
#include "experiments/results/results_file.h"

namespace mobalab::experiments {

/// The table `measure`: a row for each unit and setting; `measured` has the settings of each unit of the plan. `device`
/// is where it was measured.
Table measure_table(const MeasurePlan& plan, const std::vector<std::vector<MeasuredSetting>>& measured,
                    const MeasureSettings& settings, const std::string& device);

/// The table `measure_distance`: where routed blocks and needles lie, a row for each unit, setting and bin of distance
/// (block_distance.h). Settings without routed blocks (topk 1, and scorer random, whose columns are expectations) have
/// no rows.
/// `measure` is the table of the same plan and settings.
Table measure_distance_table(const Table& measure, const MeasurePlan& plan,
                             const std::vector<std::vector<MeasuredSetting>>& measured);

}  // namespace mobalab::experiments
