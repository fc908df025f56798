#pragma once

#include "analysis/routing_point.h"
#include "experiments/simulation/simulation_record.h"
#include "sim/engine/engine.h"
#include "sim/samplers/method.h"

namespace mobalab::experiments {

// A finished file of `mobalab simulate` as the beginning of a longer run.

/// Throws InputError when a run under `now` could have ended a point where one under `before` went on: fewer trials,
/// fewer misses, a larger relative error, or a rule that the other did not have. max_seconds of `now` is such a rule,
/// because a file does not say how long its points took; of `before` it is none, as the trials drawn are a beginning.
void check_goes_further(const sim::StopRule& before, const sim::StopRule& now);

/// Where a point stands that has these counts. A file does not hold the ranks of the hits; they are put where hits and
/// misses are as counted, which is all that stop rules and columns look at.
PointProgress progress_of_counts(const analysis::RoutingPoint& point, sim::Method method, sim::TrialStats counts);

}  // namespace mobalab::experiments
