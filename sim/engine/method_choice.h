#pragma once

#include <string>

#include "analysis/routing_point.h"
#include "sim/samplers/method.h"

namespace mobalab::sim {

/// The method that costs least, and why it was taken.
struct MethodChoice {
    Method method;
    std::string reason;
};

/// Without a target (target_relative_error = 0) the native method. With one, the cheaper of threshold and conditional
/// if it reaches the target within max_trials, else exact; where those two cannot answer (several needles, other
/// scorers) block, or else the native method, if it gets there, else exact; and where the exact answer is not known the
/// native method. Costs are predicted from the exact answer, so the choice is a function of the arguments alone.
MethodChoice choose_method(const analysis::RoutingPoint& point, double target_relative_error, double max_trials);

}  // namespace mobalab::sim
