#pragma once

#include "analysis/routing_point.h"

namespace mobalab::analysis {

// All of scorer mean, which is the paper's; of any other scorer they say nothing and are NaN.

/// SNR = delta_mu_eff * sqrt(d / (2 B)); arXiv 2511.11571 section 3.
double snr(const RoutingPoint& point);

/// The paper's p_fail = Phi(-SNR): one given noise block outranks the signal block (`gaussian` model).
double pairwise_miss(const RoutingPoint& point);

/// SNR above which the paper calls top-k routing reliable: Phi^-1(1 - routed / candidates). -inf when routed >=
/// candidates (nothing to outrank), +inf when routed == 0.
double reliable_snr_threshold(const RoutingPoint& point);

}  // namespace mobalab::analysis
