#pragma once

#include <cstdint>
#include <optional>

#include "analysis/routing_point.h"

namespace mobalab::analysis {

/// Inverse questions: the other fields of `point` stay, one is solved for so that the exact hit probability is at least
/// `wanted_hit` (0 < wanted_hit < 1). nullopt when no value in the field's range reaches it. The value of the field in
/// `point` is not looked at. Each throws InputError for a bad point or wanted_hit.

/// Smallest head_dim in [2, 65536]. The hit probability grows with head_dim when delta_mu_eff is positive.
std::optional<std::int64_t> smallest_head_dim(RoutingPoint point, double wanted_hit);

/// Largest block_size in [cluster_size, 65536].
///
/// With point.seq_len = 0 the candidates stay. With point.seq_len > 0 they are candidates_of_last_query(), and only
/// block sizes that leave the router a choice (candidates > routed) count: with bigger ones every block is kept and the
/// question has the trivial answer. At fixed candidates the hit probability rises with block_size at most up to one
/// maximum (where a fixed signal below the threshold gains from noise) and falls after it. Costs one evaluation for
/// each distinct number of candidates passed on the way, about 2 sqrt(seq_len) at most.
std::optional<std::int64_t> largest_block_size(RoutingPoint point, double wanted_hit);

/// Smallest topk in [1, 512].
std::optional<std::int64_t> smallest_topk(RoutingPoint point, double wanted_hit);

/// Smallest mu_signal in [0, 1], to 1e-9 absolute (the value returned reaches wanted_hit).
std::optional<double> smallest_mu_signal(RoutingPoint point, double wanted_hit);

}  // namespace mobalab::analysis
