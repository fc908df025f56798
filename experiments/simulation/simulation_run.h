#pragma once

#include <functional>
#include <string>
#include <vector>

#include "experiments/results/resumable_output.h"
#include "experiments/simulation/simulation_plan.h"
#include "experiments/simulation/simulation_record.h"

namespace mobalab::experiments {

/// Told how much of the whole work is done, in [0, 1], and where it is ("point 3 of 12: 100 trials, 7 misses").
using RunObserver = std::function<void(double fraction, const std::string& text)>;

/// How much of the plan these points have done.
double fraction_done(const SimulationPlan& plan, const std::vector<PointProgress>& points);

/// What `output`'s journal says of every point; points that have not begun where it is null.
std::vector<PointProgress> recorded_points(const SimulationPlan& plan, const ResumableOutput* output);

/// Draws what is missing of every point, alone or with the other ranks, and keeps the journal (`output`, may be null)
/// and the observer up to date. Whole points are dealt side by side while the other ranks help; long ones chunk by
/// chunk, so that all threads share one. Throws analysis::InputError, and Interrupted when a signal came or a rank
/// ended.
std::vector<PointProgress> run_simulation(const SimulationPlan& plan, std::vector<PointProgress> points,
                                          ResumableOutput* output, const RunObserver& observer);

}  // namespace mobalab::experiments
