#pragma once

#include <string>

#include "analysis/key_model.h"
#include "analysis/routing_point.h"
#include "analysis/top_k.h"

namespace mobalab::analysis {

// Laws of block scores where the keys are independent and uniform on the sphere: sums of affinities
// (analysis/affinity_sum.h) over a block, less B.

/// Not known where keys are correlated or convolved.
std::string sphere_trouble(const RoutingPoint& point);

/// Noise T_B - B against the signal c + T_(B-m) - B, c the sum of the signal affinities.
TopKProblem sphere_problem(const RoutingPoint& point);

/// At the signal c - B of a block that is all cluster.
LogLaw sphere_noise_at_fixed_signal(const RoutingPoint& point);

}  // namespace mobalab::analysis
