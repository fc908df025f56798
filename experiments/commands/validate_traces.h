#pragma once

#include "experiments/cli/subcommand.h"
#include "experiments/measure/head_meter.h"
#include "experiments/measure/measure_plan.h"

namespace mobalab::experiments {

/// Flags of `mobalab validate` that only traces have.
std::vector<Flag> trace_validation_flags();

/// Throws InputError where a flag of the other mode is given: traces or points decide which these are.
void check_flags_of_mode(const Arguments& arguments);

/// What `validate` with traces measures. Throws what plan_measurement() throws.
MeasurePlan trace_validation_plan(const Arguments& arguments);

/// Measures with `meter`, predicts, compares, prints. exit_ok: everything is within the stated error; exit_disagree.
int run_trace_validation(const Arguments& arguments, const MeasurePlan& plan, HeadMeter& meter, Terminal& terminal);

}  // namespace mobalab::experiments
