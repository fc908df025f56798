#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "experiments/probe/kernel_under_test.h"
#include "experiments/probe/probe_counts.h"
#include "experiments/probe/probe_plan.h"

namespace mobalab::experiments {

// The needle probe: one routing call of a real kernel is many trials of the model `sphere`.
//
// A key set is N keys, i.i.d. uniform on the sphere, drawn before anything else. A probe at position p has c = p / B
// candidates; it picks one of them, j, and m distinct key slots in it, and then the *query is built from the keys*:
//
//     q = K^T G^-1 mu + sqrt(1 - mu^T G^-1 mu) v,   K: the m keys (unit rows), G = K K^T,
//     mu = (mu_signal, mu_cluster, ...), v: uniform unit vector orthogonal to the rows of K.
//
// So q.k_i = mu_i exactly. q is uniform on the sphere (K and v are rotation invariant), and every key outside the
// cluster is still i.i.d. uniform given q: the probe is exactly the model `sphere` at c candidates, whatever other
// probes of the key set do. (Planting keys along the queries instead would put the needles of one probe among the noise
// of the others, and for m > 1 correlate the cluster's keys.) For m = 1 it is the same joint law as
// k* = mu q + sqrt(1 - mu^2) u.
//
// mu^T G^-1 mu <= 1 is needed. A probe whose cluster does not allow it is dropped, never redrawn: whether the first
// cluster drawn is feasible says nothing about the keys outside it, so the probes kept are unbiased; a second cluster
// would share keys (or at least rivals) with one known to be infeasible, which is known to point away from the query
// (measured: 3 % too many misses at d = 32, B = 16, m = 4, mu = 0.9).
//
// Random numbers: keys and positions from (seed, shape), queries from (seed, shape, mu, m), all by the number of the
// key set. A result depends on its point, seed and budget alone, not on the grid it is part of. topk is not part of any
// of them: selections are best first, so a smaller topk is a prefix of a larger one and one routing call serves them
// all.

/// Needles of one kind: what a query is built from, and the topk's it is judged by.
struct NeedleKind {
    double mu_signal = 0.0;
    double mu_cluster = 0.0;  ///< 0 where cluster_size is 1
    std::int64_t cluster_size = 1;
    double query_mean = 0.0;  ///< of needles in a text
    std::vector<std::int64_t> topks;
};

/// What keys along a text are (analysis::RoutingPoint).
struct TextFields {
    double key_mean = 0.0;
    double effective_dim = 0.0;
    double key_correlation = 0.0;
    std::int64_t key_memory = 0;
    double sink = 0.0;
    friend bool operator==(const TextFields&, const TextFields&) = default;
};

/// All probes of one shape.
struct ProbeJob {
    ProbeShape shape;
    ProbeBudget budget;
    std::uint64_t seed = 0;
    std::vector<NeedleKind> kinds;
    std::optional<TextFields> text = {};  ///< keys along a text (text_source.h); none: independent unit keys
    bool has_law = true;                  ///< false: the router follows none of the scorers, so theory expects nothing

    std::int64_t largest_topk() const;
};

/// Where the probes of one key set stand.
std::vector<QueryChunk> chunks_of_key_set(const ProbeJob& job, std::int64_t key_set);

/// The keys of key set number `key_set`: rows 0 to seq_len - 1 of a stream of unit rows.
sim::UnitRows keys_of_set(const ProbeShape& shape, std::uint64_t seed, std::int64_t key_set);

/// fp32 [seq_len, head_dim]: the same as numbers.
std::vector<float> draw_keys(const ProbeShape& shape, std::uint64_t seed, std::int64_t key_set);

/// The queries of one kind on one key set: draws the block each one's needle lies in and its cluster, the needle first.
sim::NeedleQueries queries_of_set(const ProbeJob& job, const NeedleKind& kind,
                                  const std::vector<ProbeSegment>& segments, std::int64_t key_set);

/// Throws InputError when the probe cannot realise the shape or a kind: one block only, topk beyond the kernels; among
/// unit keys cluster_size >= head_dim, or affinities that hardly any cluster allows (naming mu, m, d and the largest
/// feasible mu); of a text more keys than fit.
void check_job(const ProbeJob& job);

}  // namespace mobalab::experiments
