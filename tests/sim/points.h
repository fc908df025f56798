#pragma once

#include <cstdint>

#include "analysis/routing_point.h"

namespace mobalab::sim::testing {

/// A point by its numbers, in the order of the vocabulary: d, B, c, k, m, mu_signal, mu_cluster.
inline analysis::RoutingPoint point_of(analysis::Model model, std::int64_t head_dim, std::int64_t block_size,
                                       std::int64_t candidates, std::int64_t topk, std::int64_t cluster_size,
                                       double mu_signal, double mu_cluster = 0.0) {
    return {.model = model,
            .head_dim = head_dim,
            .block_size = block_size,
            .candidates = candidates,
            .topk = topk,
            .cluster_size = cluster_size,
            .mu_signal = mu_signal,
            .mu_cluster = mu_cluster};
}

}  // namespace mobalab::sim::testing
