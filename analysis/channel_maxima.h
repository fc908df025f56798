#pragma once

#include "analysis/key_model.h"
#include "analysis/routing_point.h"

namespace mobalab::analysis {

/// What each channel c of a block is scored by.
enum class ChannelScore {
    maximum,         ///< q_c max over the keys k of k_c
    signed_maximum,  ///< |q_c| max over the keys k of sign(q_c) k_c
};

/// The signal block's score, a sum over channels, where all scores are taken for normal: in units of a noise block's
/// standard deviation and less its mean. Of one needle, independent unit keys and a query uniform on the sphere, d
/// >= 3.
///
/// Let M be the maximum of a noise block's B keys in a channel, in units of 1/sqrt(d), M_t that of the signal block in
/// a channel where the query has t (density ~ (1 - t^2)^((d-3)/2)), and w = t for `maximum`, |t| for `signed_maximum`.
/// There a token of affinity mu is taken for N(mu t sqrt(d), (1 - mu^2)(1 - t^2) d/(d - 1)). Distance of the means:
///
///     sqrt(d) E[w (E(M_t | t) - E M)]
///
/// (mobalab's theory notes, 3(e), for one token; here for m by the product of their distribution functions). Variances:
/// E[w^2 Var] plus, as unit keys are not independent between channels, d (d - 1) E[w w' Cov(t, t')], all over d. Keys
/// uniform on the sphere are uncorrelated but their squares are not, Cov = -2/(d + 2) in these units; to first order in
/// it (Edgeworth's series; for a token also in Cov(y, y') = -(1 - mu^2) t t' d/(d - 1), as it is fixed along q)
///
///     Cov(t, t') = sum over keys of  dE/dy dE'/dy' Cov(y, y')  -  A A' / (2 (d + 2)),  A = sd^2 d2E/dy2,
///
/// y the key's coordinate and E its mean maximum with the other keys. For normal keys, those of the notes, the second
/// part is absent and the noise variance Var(M)/d.
NormalSignal channel_maxima_signal(const RoutingPoint& point, ChannelScore score);

}  // namespace mobalab::analysis
