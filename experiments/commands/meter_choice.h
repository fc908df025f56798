#pragma once

#include <memory>

#include "experiments/cli/subcommand.h"
#include "experiments/measure/head_meter.h"
#include "experiments/measure/measure_plan.h"

namespace mobalab::experiments {

/// The meter that --device names for the plan; `auto` is cuda where it can measure all of it, and says on terminal.err
/// what it is. Throws InputError where cuda was asked for and cannot.
std::unique_ptr<HeadMeter> chosen_meter(const Arguments& arguments, const MeasurePlan& plan, Terminal& terminal);

}  // namespace mobalab::experiments
