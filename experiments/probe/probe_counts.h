#pragma once

#include <cstdint>
#include <vector>

#include "experiments/probe/probe_source.h"

namespace mobalab::experiments {

// Hits and misses of the probes of any source.

/// Consecutive probes of a key set with the same number of candidates.
struct ProbeSegment {
    std::int64_t candidates;
    std::int64_t rows;
};

std::vector<ProbeSegment> segments_of(const std::vector<QueryChunk>& chunks, std::int64_t block_size);

/// Counts of one key set: what a journal stores.
struct KeySetCounts {
    /// Probes kept: [kind][segment].
    std::vector<std::int64_t> trials;
    /// Kept probes whose block was not routed: [kind][topk of the kind][bucket of candidates].
    std::vector<std::int64_t> misses;
    /// Rows whose selection breaks the rule of candidates: entries outside [0, c) or fewer than min(topk - 1, c).
    std::int64_t illegal_rows = 0;

    friend bool operator==(const KeySetCounts&, const KeySetCounts&) = default;
};

/// Size of KeySetCounts::misses, and the place of one entry (bucket 0) in it.
std::size_t misses_size(const ProbeSource& source);
std::size_t misses_index(const ProbeSource& source, std::size_t kind, std::size_t topk);

/// Routes all probes of key set number `key_set` and counts. Throws KernelError.
KeySetCounts count_key_set(const ProbeSource& source, const KernelUnderTest& kernel, std::int64_t key_set);

}  // namespace mobalab::experiments
