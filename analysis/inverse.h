#pragma once

#include <cstdint>
#include <optional>

#include "analysis/routing_point.h"

namespace mobalab::analysis {

/// Inverse questions: the other fields of `point` stay, one is solved for so that the exact hit probability is at least
/// `wanted_hit` (0 < wanted_hit < 1). nullopt when no value in the field's range reaches it.

/// Smallest head_dim in [2, 65536].
std::optional<std::int64_t> smallest_head_dim(RoutingPoint point, double wanted_hit);

/// Largest block_size in [cluster_size, 65536]. With point.seq_len > 0 the candidates follow from it, else they stay.
std::optional<std::int64_t> largest_block_size(RoutingPoint point, double wanted_hit);

/// Smallest topk in [1, 512].
std::optional<std::int64_t> smallest_topk(RoutingPoint point, double wanted_hit);

/// Smallest mu_signal in [0, 1], to 1e-9 absolute (the value returned reaches wanted_hit).
std::optional<double> smallest_mu_signal(RoutingPoint point, double wanted_hit);

}  // namespace mobalab::analysis
