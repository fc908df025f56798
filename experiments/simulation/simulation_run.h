#pragma once

#include <functional>
#include <string>
#include <vector>

#include "experiments/results/resumable_output.h"
#include "experiments/simulation/simulation_plan.h"
#include "experiments/simulation/simulation_record.h"
#include "sim/engine/engine.h"

namespace mobalab::experiments {

/// How far a run is, and the point at work.
struct RunProgress {
    double fraction;     ///< of the whole work, in [0, 1]
    std::size_t point;   ///< its number, from 0
    bool finished;       ///< this point
    bool counts_misses;  ///< its method does
    const sim::TrialStats& counts;
};

/// Called several times a second within a point and once when it is finished.
using RunObserver = std::function<void(const RunProgress& progress)>;

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
