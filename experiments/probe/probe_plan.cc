#include "experiments/probe/probe_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace mobalab::experiments {
namespace {

constexpr std::int64_t most_rows_a_chunk = 128;  // a tile of every backend
constexpr std::int64_t regular_strata = 7;
constexpr std::int64_t most_probes_a_key_set = 4096;
constexpr std::int64_t fewest_probes_a_key_set = 128;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
    return (a + b - 1) / b;
}

// Rows that stand in the last block, and rows spread over the rest of the sequence.
std::int64_t terminal_rows(std::int64_t probes) {
    return std::max<std::int64_t>(1, probes / 8);
}

std::int64_t regular_chunk_rows(const ProbeShape& shape, std::int64_t probes) {
    const std::int64_t rows = ceil_div(probes - terminal_rows(probes), regular_strata);
    return std::clamp<std::int64_t>(rows, 1, std::min(most_rows_a_chunk, shape.seq_len - shape.block_size));
}

void append_terminal_chunks(const ProbeShape& shape, std::int64_t rows, std::vector<QueryChunk>& chunks) {
    const std::int64_t last_block_rows = shape.seq_len - shape.last_candidates() * shape.block_size;
    const std::int64_t longest = std::min(last_block_rows, most_rows_a_chunk);
    while (rows > 0) {
        const std::int64_t now = std::min(rows, longest);
        chunks.push_back({shape.seq_len - now, now});
        rows -= now;
    }
}

}  // namespace

std::string canonical_text(const ProbeShape& shape) {
    return fmt::format("block_size={};dtype={};head_dim={};seq_len={}", shape.block_size, to_string(shape.dtype),
                       shape.head_dim, shape.seq_len);
}

ProbeBudget split_probes(const ProbeShape& shape, std::int64_t trials, std::int64_t key_sets) {
    if (key_sets == 0) {
        const std::int64_t freedom = (shape.last_candidates() + 1) * shape.head_dim;
        const std::int64_t most = std::clamp(freedom / 4, fewest_probes_a_key_set, most_probes_a_key_set);
        key_sets = std::max(least_key_sets, ceil_div(trials, most));
    }
    return {key_sets, std::max<std::int64_t>(2, ceil_div(trials, key_sets))};
}

std::int64_t probe_strata(const ProbeShape& shape, std::int64_t probes) {
    return ceil_div(probes - terminal_rows(probes), regular_chunk_rows(shape, probes));
}

std::vector<QueryChunk> probe_chunks(const ProbeShape& shape, std::int64_t probes, std::span<const double> uniforms) {
    const std::int64_t strata = probe_strata(shape, probes);
    if (std::ssize(uniforms) != strata) {
        throw std::logic_error("probe_chunks: one uniform per stratum");
    }
    const std::int64_t rows = regular_chunk_rows(shape, probes);
    const std::int64_t first = shape.block_size;
    const std::int64_t last = shape.seq_len - rows;
    const double octaves = std::log(static_cast<double>(last + 1) / static_cast<double>(first));

    std::vector<QueryChunk> chunks;
    std::int64_t left = probes - terminal_rows(probes);
    for (std::int64_t i = 0; i < strata; ++i) {
        const double depth =
            (static_cast<double>(i) + uniforms[static_cast<std::size_t>(i)]) / static_cast<double>(strata);
        const auto start = static_cast<std::int64_t>(static_cast<double>(first) * std::exp(depth * octaves));
        chunks.push_back({std::clamp(start, first, last), std::min(rows, left)});
        left -= rows;
    }
    append_terminal_chunks(shape, terminal_rows(probes), chunks);
    return chunks;
}

std::size_t CandidateBuckets::index_of(std::int64_t candidates) const {
    const auto above = std::upper_bound(low.begin(), low.end(), candidates);
    return static_cast<std::size_t>(above - low.begin()) - 1;
}

CandidateBuckets candidate_buckets(std::int64_t last_candidates) {
    CandidateBuckets buckets;
    const double octaves = std::log(static_cast<double>(last_candidates));
    for (std::int64_t i = 0; i < regular_strata; ++i) {
        const auto low = static_cast<std::int64_t>(
            std::llround(std::exp(octaves * static_cast<double>(i) / static_cast<double>(regular_strata))));
        if (low < last_candidates && (buckets.low.empty() || low > buckets.low.back())) {
            buckets.low.push_back(low);
        }
    }
    buckets.low.push_back(last_candidates);
    for (std::size_t i = 1; i < buckets.low.size(); ++i) {
        buckets.high.push_back(buckets.low[i] - 1);
    }
    buckets.high.push_back(last_candidates);
    return buckets;
}

}  // namespace mobalab::experiments
