#include "experiments/probe/probe_counts.h"

#include <algorithm>
#include <span>

namespace mobalab::experiments {
namespace {

// Index of a block in one row of the selection; the length of the row when it is not there.
std::int64_t rank_of(std::span<const std::int32_t> row, std::int64_t block) {
    return std::find(row.begin(), row.end(), static_cast<std::int32_t>(block)) - row.begin();
}

bool legal(std::span<const std::int32_t> row, std::int64_t candidates) {
    const std::int64_t filled = std::min(std::ssize(row), candidates);
    return std::all_of(row.begin(), row.begin() + filled,
                       [&](std::int32_t block) { return 0 <= block && block < candidates; }) &&
           std::all_of(row.begin() + filled, row.end(), [](std::int32_t block) { return block == -1; });
}

// Adds one kind of probes to the counts of a key set.
void count_kind(const ProbeSource& source, std::size_t kind, const RoutedProbes& probes,
                const std::vector<ProbeSegment>& segments, KeySetCounts& counts) {
    const std::vector<std::int64_t>& topks = source.topks(kind);
    const auto width = static_cast<std::size_t>(*std::max_element(topks.begin(), topks.end()) - 1);
    const CandidateBuckets buckets = candidate_buckets(source.shape().last_candidates());
    std::size_t i = 0;
    for (const ProbeSegment& segment : segments) {
        const std::size_t bucket = buckets.index_of(segment.candidates);
        std::int64_t kept = 0;
        for (const std::size_t end = i + static_cast<std::size_t>(segment.rows); i < end; ++i) {
            const std::span<const std::int32_t> row(probes.selection.data() + i * width, width);
            counts.illegal_rows += legal(row, segment.candidates) ? 0 : 1;
            if (probes.kept[i] == 0) {
                continue;
            }
            ++kept;
            const std::int64_t rank = rank_of(row, probes.targets[i]);
            for (std::size_t t = 0; t < topks.size(); ++t) {
                counts.misses[misses_index(source, kind, t) + bucket] += rank >= topks[t] - 1 ? 1 : 0;
            }
        }
        counts.trials.push_back(kept);
    }
}

}  // namespace

std::vector<ProbeSegment> segments_of(const std::vector<QueryChunk>& chunks, std::int64_t block_size) {
    std::vector<ProbeSegment> segments;
    for (const QueryChunk& chunk : chunks) {
        std::int64_t row = chunk.start;
        while (row < chunk.start + chunk.rows) {
            const std::int64_t candidates = row / block_size;
            const std::int64_t end = std::min((candidates + 1) * block_size, chunk.start + chunk.rows);
            segments.push_back({candidates, end - row});
            row = end;
        }
    }
    return segments;
}

std::size_t misses_index(const ProbeSource& source, std::size_t kind, std::size_t topk) {
    const std::size_t buckets = candidate_buckets(source.shape().last_candidates()).size();
    std::size_t rows = topk;
    for (std::size_t i = 0; i < kind; ++i) {
        rows += source.topks(i).size();
    }
    return rows * buckets;
}

std::size_t misses_size(const ProbeSource& source) {
    return misses_index(source, source.kinds(), 0);
}

KeySetCounts count_key_set(const ProbeSource& source, const KernelUnderTest& kernel, std::int64_t key_set) {
    const std::vector<QueryChunk> chunks = source.chunks(key_set);
    const std::vector<ProbeSegment> segments = segments_of(chunks, source.shape().block_size);
    const std::unique_ptr<LoadedKeys> loaded = source.load(kernel, key_set);
    KeySetCounts counts;
    counts.misses.assign(misses_size(source), 0);
    for (std::size_t kind = 0; kind < source.kinds(); ++kind) {
        count_kind(source, kind, source.route(*loaded, key_set, kind, chunks), segments, counts);
    }
    return counts;
}

}  // namespace mobalab::experiments
