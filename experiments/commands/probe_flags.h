#pragma once

#include <string>
#include <vector>

#include "analysis/routing_point.h"
#include "experiments/cli/subcommand.h"
#include "experiments/commands/device_choice.h"
#include "experiments/probe/kernel_under_test.h"
#include "experiments/probe/probe_run.h"
#include "experiments/results/results_file.h"

namespace mobalab::experiments {

/// What route and validate share: the points (without --mu-noise; --model sphere or text),
/// --device, --dtype, --probes, --key-sets, --seed, --threads, --confidence, --out, --force, --resume, --json.
std::vector<Flag> probe_flags();

/// What route and validate ask of a device.
DeviceDemand probe_demand(const Arguments& arguments);

/// Runs a command on the kernel --device names.
using ProbeCommand = int(const Arguments& arguments, Terminal& terminal, const KernelUnderTest& kernel);
int run_on_device(const Arguments& arguments, Terminal& terminal, ProbeCommand* run);

/// Of resolved arguments (resolve_device). Throws analysis::InputError.
ProbeSettings probe_settings(const Arguments& arguments);
double interval_confidence(const Arguments& arguments);

/// What an output of route or validate starts from. `task` is whatever the tables depend on besides points and
/// settings.
Results probe_results(const std::string& subcommand, const std::string& task,
                      const std::vector<analysis::RoutingPoint>& points, const ProbeSettings& settings,
                      const KernelUnderTest& kernel, const Arguments& arguments);

}  // namespace mobalab::experiments
