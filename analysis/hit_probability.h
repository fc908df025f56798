#pragma once

#include "analysis/routing_point.h"

namespace mobalab::analysis {

/// A probability and its complement, both in log space so that neither loses digits (down to 1e-300 and below).
/// log_miss is -inf where a miss is impossible, log_hit is -inf where a hit is.
struct HitProbability {
    double log_hit;
    double log_miss;

    double hit() const;
    double miss() const;
};

/// Throws InputError where the exact probability of a valid point is not known (has_exact_probability(),
/// hit_problem.h).
void require_exact_probability(const RoutingPoint& point);

/// Exact probability that the signal block is among the k - 1 routed blocks of `candidates` (theory of order
/// statistics; see analysis/README.md for the integral and its source). Several needles: that the point's goal is met;
/// any is P(H >= 1) and all P(H >= R), H the number of needles found, and each is E[H] / R = sum_h P(H >= h) / R.
///
/// gaussian, gaussian-fixed: relative error of the smaller of hit and miss below 1e-9; sphere, vector: below 1e-8. The
/// law is that of the point's scorer (analysis/README.md, "Laws of scorers"), never an approximation of it.
/// Throws InputError (validate(), require_exact_probability()).
HitProbability exact_hit_probability(const RoutingPoint& point);

}  // namespace mobalab::analysis
