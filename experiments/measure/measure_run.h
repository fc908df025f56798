#pragma once

#include <functional>
#include <string>
#include <vector>

#include "experiments/measure/head_measurement.h"
#include "experiments/results/resumable_output.h"

namespace mobalab::experiments {

/// Called with the share of the work done.
using MeasureProgress = std::function<void(double fraction, const std::string& text)>;

/// Identity of a run: what its table depends on, the contents of the traces by their metadata and first queries.
std::string measure_task(const MeasurePlan& plan, const MeasureSettings& settings, const std::string& device);

/// Settings of every unit of the plan. Units in the records of `output` (may be null) are not measured again, others
/// are recorded there. Throws what measure_head() throws.
std::vector<std::vector<MeasuredSetting>> run_measurement(const MeasurePlan& plan, const MeasureSettings& settings,
                                                          HeadMeter& meter, ResumableOutput* output,
                                                          const MeasureProgress& progress);

}  // namespace mobalab::experiments
