#pragma once

#include <cstdint>

#include "analysis/key_model.h"
#include "analysis/routing_point.h"
#include "analysis/top_k.h"

namespace mobalab::analysis {

// Laws of block scores in units of the noise score's standard deviation sqrt((1 + (B - 1) rho) / (d B)), rho the key
// correlation: the B keys of a block have B variances 1/d and B (B - 1) covariances rho/d.

/// Mean of the signal score: delta_mu_eff / B in these units.
double normal_signal_mean(const RoutingPoint& point);

/// Standard deviation of the signal score where the cluster's affinities are fixed and the B - m other keys are random:
/// variance (B - m)(1 + (B - m - 1) rho) / (d B^2). Exact for normal keys sqrt(rho) c + sqrt(1 - rho) u.
double fixed_cluster_sd(const RoutingPoint& point);

/// `slots` for a signal N(mean, sd^2) against so many noise scores N(0, 1).
TopKProblem normal_problem(std::int64_t noise_blocks, std::int64_t slots, const NormalSignal& signal);

}  // namespace mobalab::analysis
