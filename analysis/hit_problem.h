#pragma once

#include <cstdint>
#include <string>

#include "analysis/key_model.h"
#include "analysis/routing_point.h"
#include "analysis/top_k.h"

namespace mobalab::analysis {

// What is known of a valid point: asked of its scorer (analysis/scorer.h) and of its model (analysis/key_model.h).

/// Why exact_hit_probability() has no answer, in one line with the nearest choices; empty where it has. `model` stands
/// for the definition of point.model.
std::string exact_trouble(const RoutingPoint& point, const KeyModelDefinition& model);
bool has_exact_probability(const RoutingPoint& point);

/// Likewise for the laws below: of the scores q . mean of single blocks, hence of scorer mean alone.
std::string block_score_trouble(const RoutingPoint& point, const KeyModelDefinition& model);
bool has_block_score_laws(const RoutingPoint& point);

// The rest throw InputError where has_block_score_laws() is false.

/// Of the signal block's score, in units of the noise score's standard deviation.
NormalSignal normal_signal(const RoutingPoint& point);

/// Whether `found` or more of the needles are routed, as a signal score against noise. Let S_(h) be the h-th largest of
/// the R independent needle scores. Exactly h - 1 needles are above it, so the h best needles are all routed where at
/// most K - h noise blocks are above S_(h): a problem of K - h + 1 slots, n_c = c - R noise blocks, and a signal with
/// the law of an order statistic, P(S_(h) > s) = P(Bin(R, P(S > s)) >= h) (David and Nagaraja, Order Statistics, 2.1).
///
/// Needs 1 <= found <= min(R, K), n_c >= K - found + 1 and a signal score that is random (not every key of its block
/// fixed). For one needle it is the whole point.
TopKProblem top_k_problem(const RoutingPoint& point, std::int64_t found = 1);

/// Whether the signal score is a constant: every key of its block belongs to the cluster, whose affinities are fixed
/// (all models but `gaussian`).
bool signal_is_fixed(const RoutingPoint& point);

/// Logs of P(one noise score > signal score) and its complement where signal_is_fixed().
LogLaw noise_at_fixed_signal(const RoutingPoint& point);

}  // namespace mobalab::analysis
