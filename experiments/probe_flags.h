#pragma once

#include <string>
#include <vector>

#include "analysis/routing_point.h"
#include "experiments/probe_run.h"
#include "experiments/results_file.h"
#include "experiments/subcommand.h"

namespace mobalab::experiments {

/// What route and validate share: the points (without --model and --mu-noise: unit keys are the model `sphere`),
/// --device, --dtype, --probes, --key-sets, --seed, --threads, --confidence, --out, --force, --resume, --json.
std::vector<Flag> probe_flags();

/// Throws analysis::InputError.
ProbeSettings probe_settings(const Arguments& arguments);
kernels::DataType probe_dtype(const Arguments& arguments);
double interval_confidence(const Arguments& arguments);

/// What an output of route or validate starts from. `task` is whatever the tables depend on besides points and
/// settings.
Results probe_results(const std::string& subcommand, const std::string& task,
                      const std::vector<analysis::RoutingPoint>& points, const ProbeSettings& settings,
                      const std::string& device, const Arguments& arguments);

}  // namespace mobalab::experiments
