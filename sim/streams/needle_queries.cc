#include "sim/streams/needle_queries.h"

#include "sim/streams/needle_query.h"

namespace mobalab::sim {

using Builder = NeedleQueryBuilder<HostTeam>;

void build_needle_queries(const NeedleQueries& recipe, std::span<float> queries, std::span<std::uint8_t> feasible) {
    const std::int64_t d = recipe.keys.head_dim;
    const std::int64_t m = recipe.cluster_size;
    fill_unit_rows(recipe.noise, 0, queries);
    std::vector<float> cluster(static_cast<std::size_t>(m * d));
    std::vector<double> memory(static_cast<std::size_t>(Builder::memory_size(m, d)));
    Builder builder({}, m, d, memory.data());
    for (std::int64_t i = 0; i < recipe.count(); ++i) {
        for (std::int64_t t = 0; t < m; ++t) {
            fill_unit_rows(recipe.keys, recipe.slots[static_cast<std::size_t>(i * m + t)],
                           std::span(cluster).subspan(static_cast<std::size_t>(t * d), static_cast<std::size_t>(d)));
        }
        const bool kept = is_feasible(builder.fit(cluster.data(), recipe.mu_signal, recipe.mu_cluster));
        feasible[static_cast<std::size_t>(i)] = kept ? 1 : 0;
        if (kept) {
            float* query = queries.data() + i * d;  // coordinate e of the noise is not read after it is overwritten
            builder.build(query, [query](std::int64_t e, float q) { query[e] = q; });
        }
    }
}

double needed_length(std::span<const float> keys, std::int64_t cluster_size, double mu_signal, double mu_cluster) {
    const std::int64_t head_dim = std::ssize(keys) / cluster_size;
    std::vector<double> memory(static_cast<std::size_t>(Builder::memory_size(cluster_size, head_dim)));
    return Builder({}, cluster_size, head_dim, memory.data()).fit(keys.data(), mu_signal, mu_cluster);
}

}  // namespace mobalab::sim
