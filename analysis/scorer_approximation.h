#pragma once

#include "analysis/hit_probability.h"
#include "analysis/routing_point.h"

namespace mobalab::analysis {

/// An approximation, never to be shown as the exact probability: all block scores taken for normal, so that a noise
/// block's is N(0, 1) and the signal block's N(a, r^2) in units of it, with (a, r) of the scorer's definition
/// (ScorerDefinition::approximation). For scorers without an exact law: quest and max (analysis/channel_maxima.h).
/// Within about 3 % of simulation with unit keys where a few blocks in a hundred or more are found and d >= 64, B >= 16
/// (tests/analysis/scorer_law_test.cc); not for rare events.
///
/// Model text with scorer mean: the model's own (analysis/text_block_scores.h).
///
/// Throws InputError (validate(), head_dim below 16, and for a scorer without such an approximation, naming those that
/// have one, or with keys that it is not of).
HitProbability approximate_hit_probability(const RoutingPoint& point);

/// Whether approximate_hit_probability() takes a valid point of this model, scorer and width.
bool has_approximation(const RoutingPoint& point);

}  // namespace mobalab::analysis
