#pragma once

#include <cstdint>

#include "analysis/routing_point.h"
#include "analysis/top_k.h"

namespace mobalab::analysis {

/// Whether the exact probability is known: for every point of the normal models, and for unit keys where the scores of
/// the blocks are sums of independent affinities (no key correlation, no key convolution).
bool has_exact_probability(const RoutingPoint& point);

/// Mean and standard deviation of the signal score of a normal model, in units of the noise score's standard deviation
/// sqrt((1 + (B - 1) rho) / (d B)), rho the key correlation: the B keys of a block have B variances 1/d and B (B - 1)
/// covariances rho/d. `gaussian-fixed`: the B - m random keys of the signal block alone, (B - m)(1 + (B - m - 1) rho) /
/// (d B^2); exact for normal keys sqrt(rho) c + sqrt(1 - rho) u. `gaussian`: as noisy as a noise block.
struct NormalSignal {
    double mean;
    double sd;
};
NormalSignal normal_signal(const RoutingPoint& point);

/// Whether `found` or more of the needles are routed, as a signal score against noise. Let S_(h) be the h-th largest of
/// the R independent needle scores. Exactly h - 1 needles are above it, so the h best needles are all routed where at
/// most K - h noise blocks are above S_(h): a problem of K - h + 1 slots, n_c = c - R noise blocks, and a signal with
/// the law of an order statistic, P(S_(h) > s) = P(Bin(R, P(S > s)) >= h) (David and Nagaraja, Order Statistics, 2.1).
///
/// Needs has_exact_probability(), 1 <= found <= min(R, K), n_c >= K - found + 1 and a signal score that is random (not
/// every key of its block fixed). For one needle it is the whole point.
TopKProblem top_k_problem(const RoutingPoint& point, std::int64_t found = 1);

/// Whether the signal score is a constant: every key of its block belongs to the cluster (all models but `gaussian`).
bool signal_is_fixed(const RoutingPoint& point);

/// Logs of P(one noise score > signal score) and its complement where the signal score is fixed.
LogLaw noise_at_fixed_signal(const RoutingPoint& point);

}  // namespace mobalab::analysis
