#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace mobalab::experiments {

// Where the probes of one key set stand. Pure integers and uniforms: no tensors here.

/// What is routed. Keys, positions and queries depend on all of it but the scorer, so that scorers are compared on the
/// same probes.
struct ProbeShape {
    std::int64_t head_dim = 0;
    std::int64_t block_size = 0;
    std::int64_t seq_len = 0;
    kernels::DataType dtype = kernels::DataType::fp32;
    kernels::Scorer scorer = {};

    std::int64_t last_candidates() const { return (seq_len + block_size - 1) / block_size - 1; }
    friend auto operator<=>(const ProbeShape&, const ProbeShape&) = default;
};

/// Canonical text of a shape without its scorer: the identity its keys and positions are drawn under.
std::string canonical_text(const ProbeShape& shape);

/// Consecutive queries: rows [start, start + rows) of the sequence, routed in one call.
struct QueryChunk {
    std::int64_t start = 0;
    std::int64_t rows = 0;
    friend bool operator==(const QueryChunk&, const QueryChunk&) = default;
};

/// How many independent key sets, and how many probes on each.
struct ProbeBudget {
    std::int64_t key_sets = 0;
    std::int64_t probes = 0;
};

/// Splits `trials` probes of a point over key sets; `key_sets` 0 chooses their number.
///
/// Probes of one key set share its centroids, whose second moment fluctuates by about (n d)^-1/2: the variance of a
/// count grows by a factor of about 1 + P / (n d). So P is kept below n d / 4 (and 4096, so that there are at least as
/// many key sets as a variance estimate needs), and more sets are drawn instead; never fewer than least_key_sets.
ProbeBudget split_probes(const ProbeShape& shape, std::int64_t trials, std::int64_t key_sets);
inline constexpr std::int64_t least_key_sets = 32;

/// Uniforms probe_chunks() wants: one per stratum.
std::int64_t probe_strata(const ProbeShape& shape, std::int64_t probes);

/// Chunks of one key set, `probes` rows in all, none in the first block (it has no candidates).
///
/// Seven eighths are stratified over the logarithm of the position, because the hit probability moves with the
/// logarithm of the number of candidates; the last eighth stands in the last block, where the candidates are those of
/// the point itself, so that these probes can be compared with a simulation of that point.
std::vector<QueryChunk> probe_chunks(const ProbeShape& shape, std::int64_t probes, std::span<const double> uniforms);

/// Ranges of numbers of candidates, [low, high] ends included: log-spaced, the last one is exactly {last_candidates}.
struct CandidateBuckets {
    std::vector<std::int64_t> low;
    std::vector<std::int64_t> high;
    std::size_t size() const { return low.size(); }
    std::size_t index_of(std::int64_t candidates) const;  ///< 1 <= candidates <= last
};
CandidateBuckets candidate_buckets(std::int64_t last_candidates);

}  // namespace mobalab::experiments
