#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "analysis/routing_point.h"
#include "sim/engine/engine.h"
#include "sim/engine/method_choice.h"

namespace mobalab::experiments {

/// What a run of simulate was asked for.
struct SimulationPlan {
    std::vector<analysis::RoutingPoint> points;
    std::string grid_text;                   ///< what the tables hold beside the points (PointGrid::task_text())
    std::vector<sim::MethodChoice> choices;  ///< one a point
    sim::Budget budget;
    bool any_device = false;  ///< --device auto: CUDA where the method has a kernel
    double confidence = 0.95;

    /// The budget with the point's method and device.
    sim::Budget budget_of(std::size_t index) const;

    /// Everything the file's tables depend on: the identity of the task.
    std::string canonical_text() const;
};

/// Sets every point's method: the one named, or for "auto" the one that costs least under the plan's stop rules. Throws
/// analysis::InputError when the method cannot answer a point or a stop rule.
void choose_methods(SimulationPlan& plan, const std::string& method);

/// Sets where trials are drawn: "cpu", "cuda", or "auto" (cuda where a point's method has a kernel and there is a
/// device). Needs the methods. Throws analysis::InputError where cuda was asked for and a point cannot be drawn there.
void choose_device(SimulationPlan& plan, const std::string& device);

}  // namespace mobalab::experiments
