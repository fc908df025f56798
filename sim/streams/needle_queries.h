#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sim/streams/unit_rows.h"

namespace mobalab::sim {

/// Queries with given affinities to keys of one key set, as a recipe: everything but the slots is drawn where the
/// queries are needed, with the same bits on the host and on a GPU (sim/streams/needle_query.h).
struct NeedleQueries {
    UnitRows keys;   ///< the key set
    UnitRows noise;  ///< row i: the direction of query i outside its cluster
    std::int64_t cluster_size = 1;
    double mu_signal = 0.0;           ///< affinity to the first key of the cluster
    double mu_cluster = 0.0;          ///< to the others
    std::vector<std::int64_t> slots;  ///< [queries, cluster_size]: rows of `keys`, distinct within a query

    std::int64_t count() const { return std::ssize(slots) / cluster_size; }
};

/// Builds all queries, fp32 [count, head_dim]. feasible[i] is 1, or 0 where no unit query has the affinities to the
/// cluster of query i: the query is then its noise.
void build_needle_queries(const NeedleQueries& recipe, std::span<float> queries, std::span<std::uint8_t> feasible);

/// mu^T G^-1 mu of a cluster `keys` [cluster_size, head_dim]: the squared length a query with the affinities has in
/// its span; +inf where the keys are dependent.
double needed_length(std::span<const float> keys, std::int64_t cluster_size, double mu_signal, double mu_cluster);

}  // namespace mobalab::sim
