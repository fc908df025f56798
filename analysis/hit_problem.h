#pragma once

#include "analysis/routing_point.h"
#include "analysis/top_k.h"

namespace mobalab::analysis {

/// The scores of a valid point as laws: what exact_hit_probability() integrates. Needs routed() >= 1, noise_blocks() >=
/// routed() and a signal score that is random (not every key of its block fixed).
TopKProblem top_k_problem(const RoutingPoint& point);

/// Whether the signal score is a constant: every key of its block belongs to the cluster (all models but `gaussian`).
bool signal_is_fixed(const RoutingPoint& point);

/// Logs of P(one noise score > signal score) and its complement where the signal score is fixed.
LogLaw noise_at_fixed_signal(const RoutingPoint& point);

}  // namespace mobalab::analysis
