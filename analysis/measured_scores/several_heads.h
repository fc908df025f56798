#pragma once

#include <cstdint>
#include <span>

#include "analysis/measured_scores/standardised_hit.h"

namespace mobalab::analysis {

// Several heads look for the same target, each with queries and keys of its own: the target is found where at least one
// of them routes its block.

/// P(at least one head hits) = 1 - prod_h (1 - hit_h) for heads that hit independently. 0 without heads. Throws
/// InputError: a hit outside [0, 1].
double any_hit_of_independent(std::span<const double> hits);

/// The same from the scores: head h has S_h ~ N(a_h, r_h^2) against independent N(0, 1) rivals of its own, and the S_h
/// of a query share one factor, S_h = a_h + r_h (sqrt(rho) f + sqrt(1 - rho) e_h), f and e_h standard normal, so that
/// any two have correlation rho:
///   1 - E_f[prod_h (1 - hit_of_standardised({a_h + r_h sqrt(rho) f, r_h sqrt(1 - rho)}, candidates, slots))].
/// rho = 0 is any_hit_of_independent of the heads' hits. Right to 1e-6. What it cannot see: heads whose rivals resemble
/// each other, pairs of heads more alike than others, laws that are not normal.
///
/// Throws InputError: rho outside [0, 1], or what hit_of_standardised refuses.
double any_hit_of_standardised(std::span<const StandardisedSignal> heads, double correlation, std::int64_t candidates,
                               std::int64_t slots);

/// Accuracy of a model that answers what it finds and nothing else: own_share + (1 - own_share) any_hit. Targets in the
/// query's own block, which every head attends to, are answered; the others where some head routes their block.
/// It assumes that a head that routes the block also reads the answer out, and that what is not routed is never guessed
/// (a guess among p values would add (1 - any_hit) / p) or reached another way. So it exceeds the truth by what
/// reading out loses. Throws InputError: a share outside [0, 1].
double accuracy_of_any_hit(double own_share, double any_hit);

}  // namespace mobalab::analysis
