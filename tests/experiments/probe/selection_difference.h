#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "experiments/probe/needle_probe.h"

namespace mobalab::experiments {

/// The queries of a key set as numbers.
struct HostQueries {
    sim::NeedleQueries recipe;
    std::vector<float> queries;
    std::vector<std::uint8_t> feasible;

    HostQueries(const ProbeJob& job, const NeedleKind& kind, std::int64_t key_set)
        : recipe(
              queries_of_set(job, kind, segments_of(chunks_of_key_set(job, key_set), job.shape.block_size), key_set)),
          queries(static_cast<std::size_t>(recipe.count() * job.shape.head_dim)),
          feasible(static_cast<std::size_t>(recipe.count())) {
        sim::build_needle_queries(recipe, queries, feasible);
    }
};

/// How the selections of two routers on the same keys and queries differ.
struct SelectionDifference {
    std::int64_t rows = 0;
    std::int64_t differing_rows = 0;  ///< in any entry
    double worst_gap = 0.0;  ///< score of one's choice minus that of the other's at the same rank; see gap_bound
};

/// Routers that both round centroids to 16 bits may differ by one rounding of each element of a centroid (their sums
/// have different orders) and by the order of q . centroid in fp32. Of two chosen blocks, each may be off by
/// 2^-8 sum |q_e c_e| (bf16 keeps 8 bits), and that sum is at most |q| |c| = |c|. So choices at the same rank have
/// exact scores within 2 * 2^-8 * |c| of each other, |c| the longest centroid: about sqrt(2 / B) for unit keys.
inline double gap_bound(const ProbeShape& shape) {
    return 2.0 / 256.0 * std::sqrt(2.0 / static_cast<double>(shape.block_size));
}

/// Key set `key_set` of the job, queries of its first kind, largest topk.
inline SelectionDifference difference_of(const ProbeJob& job, std::int64_t key_set, const KernelUnderTest& a,
                                         const KernelUnderTest& b) {
    const ProbeShape& shape = job.shape;
    const std::vector<float> keys = draw_keys(shape, job.seed, key_set);
    const std::vector<QueryChunk> chunks = chunks_of_key_set(job, key_set);
    const HostQueries built(job, job.kinds.front(), key_set);
    const auto width = static_cast<std::size_t>(job.largest_topk() - 1);
    std::vector<std::int32_t> of_a(built.feasible.size() * width, -2);
    std::vector<std::int32_t> of_b = of_a;
    a.load(shape, keys)->route(chunks, built.queries, job.largest_topk(), of_a);
    b.load(shape, keys)->route(chunks, built.queries, job.largest_topk(), of_b);

    const auto score = [&](std::size_t row, std::int32_t block) {
        if (block < 0 || block > shape.last_candidates()) {
            return std::nan("");
        }
        const std::int64_t first = block * shape.block_size;
        const std::int64_t last = std::min(first + shape.block_size, shape.seq_len);
        double sum = 0.0;
        for (std::int64_t i = first * shape.head_dim; i < last * shape.head_dim; ++i) {
            sum += static_cast<double>(keys[static_cast<std::size_t>(i)]) *
                   static_cast<double>(built.queries[row * static_cast<std::size_t>(shape.head_dim) +
                                                     static_cast<std::size_t>(i % shape.head_dim)]);
        }
        return sum / static_cast<double>(last - first);
    };
    SelectionDifference result{.rows = std::ssize(built.feasible)};
    for (std::size_t row = 0; row < built.feasible.size(); ++row) {
        bool same = true;
        for (std::size_t i = row * width; i < (row + 1) * width; ++i) {
            if (of_a[i] != of_b[i]) {
                same = false;
                const double gap = std::abs(score(row, of_a[i]) - score(row, of_b[i]));
                result.worst_gap = std::isnan(gap) ? gap : std::max(result.worst_gap, gap);
                if (std::isnan(gap)) {
                    return result;
                }
            }
        }
        result.differing_rows += same ? 0 : 1;
    }
    return result;
}

}  // namespace mobalab::experiments
