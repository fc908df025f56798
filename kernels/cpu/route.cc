// Routing: tiles of queries against tiles of summaries, the best blocks kept on the fly; no N x n score matrix.
#include <limits>
#include <vector>

#include "kernels/cpu/block_scores.h"
#include "kernels/cpu/operations.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/sequences.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/topk.h"

namespace mobalab::kernels::cpu {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

struct QueryTile {
    Index sequence, head, first_row;
};

/// Longest rows first, so that the threads end together.
std::vector<QueryTile> tiles_of(const Problem& p, const std::vector<Sequence>& sequences) {
    std::vector<QueryTile> tiles;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
        const Index count = (sequences[i].queries + tile_rows - 1) / tile_rows;
        for (Index t = count - 1; t >= 0; --t) {
            for (Index head = 0; head < p.heads_q; ++head) {
                tiles.push_back({static_cast<Index>(i), head, t * tile_rows});
            }
        }
    }
    return tiles;
}

/// One thread's scratch.
struct Router {
    explicit Router(const Problem& p) : best(tile_rows, p.scored()), block_scores(p) {}
    TopK best;
    BlockScores block_scores;
    std::vector<Index> candidates = std::vector<Index>(static_cast<std::size_t>(tile_rows));

    void run(const Problem& p, ConstTensor q, const Sequence& s, const RowTile& summaries, const QueryTile& tile,
             std::int32_t* selection, float* selection_scores) {
        const Index rows = std::min(tile_rows, s.queries - tile.first_row);
        for (Index r = 0; r < rows; ++r) candidates[static_cast<std::size_t>(r)] = s.candidates(tile.first_row + r);
        best.clear();
        if (p.scored() > 0) {
            block_scores.load(q, s, tile.head, tile.first_row, rows);
            find_best(summaries, rows, p.keep_first);
        }
        const Index first_slots = p.routed() - p.scored();
        for (Index r = 0; r < rows; ++r) {
            const Index at = (tile.head * p.tokens_q() + s.q_begin + tile.first_row + r) * p.routed();
            std::int32_t* blocks = selection + at;
            float* scores = selection_scores == nullptr ? nullptr : selection_scores + at;
            if (first_slots > 0) write_first(candidates[static_cast<std::size_t>(r)] > 0, blocks, scores);
            best.write(r, blocks + first_slots, scores == nullptr ? nullptr : scores + first_slots);
        }
    }

    void find_best(const RowTile& summaries, Index rows, bool keep_first) {
        const Index most = candidates[static_cast<std::size_t>(rows - 1)];
        for (Index first = 0; first < most; first += BlockScores::most_blocks) {
            auto scores = block_scores.score(summaries, first, std::min(BlockScores::most_blocks, most - first));
            hide_later_blocks(scores, first, rows);
            if (keep_first && first == 0) scores.col(0).setConstant(-infinity);  // it has its slot already
            best.add(scores, first, candidates, rows);
        }
    }

    /// The slot of block 0, which is always kept.
    static void write_first(bool is_candidate, std::int32_t* block, float* score) {
        *block = is_candidate ? 0 : -1;
        if (score != nullptr) *score = is_candidate ? infinity : -infinity;
    }

    /// Later blocks of the earlier queries are not candidates: they must not raise the threshold.
    void hide_later_blocks(Eigen::Ref<ScoreTile> scores, Index first, Index rows) const {
        for (Index column = 0; column < scores.cols(); ++column) {
            for (Index r = 0; r < rows && candidates[static_cast<std::size_t>(r)] <= first + column; ++r) {
                scores(r, column) = -infinity;
            }
        }
    }
};

}  // namespace

Status route_with_centroids(const Problem& p, ConstTensor q, const void* centroids, std::int32_t* selection,
                            float* scores, const Execution& execution) {
    return route_sequences(p, sequences_of(p), q, centroids, selection, scores, execution);
}

Status route_sequences(const Problem& p, const std::vector<Sequence>& sequences, ConstTensor q, const void* centroids,
                       std::int32_t* selection, float* scores, const Execution& execution) {
    std::vector<RowTile> summaries(sequences.size() * static_cast<std::size_t>(p.heads_k));
    const auto to_load = p.scored() > 0 ? static_cast<Index>(summaries.size()) : 0;
    parallel_for(to_load, execution.threads, [&](Index i) {
        summaries[static_cast<std::size_t>(i)] =
            load_summaries(p, centroids, sequences[static_cast<std::size_t>(i / p.heads_k)], i % p.heads_k);
    });
    const std::vector<QueryTile> tiles = tiles_of(p, sequences);
    const Index group = p.heads_q / p.heads_k;
    parallel_for_workers(static_cast<Index>(tiles.size()), execution.threads, [&]() -> Task {
        return [&, router = Router(p)](Index i) mutable {
            const QueryTile& tile = tiles[static_cast<std::size_t>(i)];
            const RowTile& of_tile = summaries[static_cast<std::size_t>(tile.sequence * p.heads_k + tile.head / group)];
            router.run(p, q, sequences[static_cast<std::size_t>(tile.sequence)], of_tile, tile, selection, scores);
        };
    });
    return {};
}

Status route(const Problem& p, ConstTensor q, ConstTensor k, std::int32_t* selection, float* scores,
             const Execution& execution) {
    std::vector<std::byte> centroids(static_cast<std::size_t>(p.centroid_elements()) * size_of(p.centroid_dtype()));
    if (!centroids.empty() && p.scored() > 0) {
        if (Status s = cpu::compute_centroids(p, k, centroids.data(), execution); !s.ok()) return s;
    }
    return cpu::route_with_centroids(p, q, centroids.data(), selection, scores, execution);
}

}  // namespace mobalab::kernels::cpu
