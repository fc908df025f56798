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

}  // namespace mobalab::experiments
