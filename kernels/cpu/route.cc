// Routing: tiles of queries against tiles of centroids, the best blocks kept on the fly; no N x n score matrix.
#include <limits>
#include <vector>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/operations.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/sequences.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/topk.h"

namespace mobalab::kernels::cpu {
namespace {

/// Columns of a score tile: 240 x 512 fp32 scores and 512 centroids stay in a core's L2.
constexpr Index tile_blocks = 512;

DataType centroid_type(const Problem& p) {
    return p.centroids == Centroids::fp32 ? DataType::fp32 : p.dtype;
}

/// fp32 centroids of one (sequence, key head), zero rows up to a multiple of column_quantum.
RowTile load_centroids(const Problem& p, const void* centroids, const Sequence& s, Index head) {
    const Index padded = round_up(s.blocks, column_quantum);
    RowTile tile(padded, p.head_dim);
    const ConstTensor tensor = {.data = centroids, .stride_token = p.heads_k * p.head_dim, .stride_head = p.head_dim};
    load_rows(tensor, centroid_type(p), s.block_begin, s.blocks, head, 1.0F, padded, tile);
    return tile;
}

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
    explicit Router(const Problem& p)
        : best(tile_rows, p.routed()), queries(tile_rows, p.head_dim), scores(tile_rows, tile_blocks) {}
    TopK best;
    RowTile queries;
    ScoreTile scores;
    std::vector<Index> candidates = std::vector<Index>(static_cast<std::size_t>(tile_rows));

    void run(const Problem& p, ConstTensor q, const Sequence& s, const RowTile& centroids, const QueryTile& tile,
             std::int32_t* selection, float* selection_scores) {
        const Index rows = std::min(tile_rows, s.queries - tile.first_row);
        const Index padded = round_up(rows, row_quantum);
        load_rows(queries_of(s, q, p.dtype), p.dtype, tile.first_row, rows, tile.head, 1.0F, padded, queries);
        for (Index r = 0; r < rows; ++r) candidates[static_cast<std::size_t>(r)] = s.own_block(tile.first_row + r);
        const Index most = candidates[static_cast<std::size_t>(rows - 1)];

        best.clear();
        for (Index first = 0; first < most; first += tile_blocks) {
            score(centroids, first, round_up(std::min(tile_blocks, most - first), column_quantum), padded, rows);
        }
        for (Index r = 0; r < rows; ++r) {
            const Index at = (tile.head * p.tokens_q() + s.q_begin + tile.first_row + r) * p.routed();
            best.write(r, selection + at, selection_scores == nullptr ? nullptr : selection_scores + at);
        }
    }

    void score(const RowTile& centroids, Index first, Index columns, Index padded, Index rows) {
        auto tile = scores.topLeftCorner(padded, columns);
        tile.noalias() = queries.topRows(padded) * centroids.middleRows(first, columns).transpose();
        // Later blocks of the earlier queries are not candidates: they must not raise the threshold.
        for (Index column = 0; column < columns; ++column) {
            for (Index r = 0; r < rows && candidates[static_cast<std::size_t>(r)] <= first + column; ++r) {
                tile(r, column) = -std::numeric_limits<float>::infinity();
            }
        }
        best.add(tile, first, candidates, rows);
    }
};

}  // namespace

Status route_with_centroids(const Problem& p, ConstTensor q, const void* centroids, std::int32_t* selection,
                            float* scores, const Execution& execution) {
    const std::vector<Sequence> sequences = sequences_of(p);
    std::vector<RowTile> centroid_tiles(sequences.size() * static_cast<std::size_t>(p.heads_k));
    parallel_for(static_cast<Index>(centroid_tiles.size()), execution.threads, [&](Index i) {
        centroid_tiles[static_cast<std::size_t>(i)] =
            load_centroids(p, centroids, sequences[static_cast<std::size_t>(i / p.heads_k)], i % p.heads_k);
    });
    const std::vector<QueryTile> tiles = tiles_of(p, sequences);
    const Index group = p.heads_q / p.heads_k;
    parallel_for_workers(static_cast<Index>(tiles.size()), execution.threads, [&]() -> Task {
        return [&, router = Router(p)](Index i) mutable {
            const QueryTile& tile = tiles[static_cast<std::size_t>(i)];
            const RowTile& tile_centroids =
                centroid_tiles[static_cast<std::size_t>(tile.sequence * p.heads_k + tile.head / group)];
            router.run(p, q, sequences[static_cast<std::size_t>(tile.sequence)], tile_centroids, tile, selection,
                       scores);
        };
    });
    return {};
}

Status route(const Problem& p, ConstTensor q, ConstTensor k, std::int32_t* selection, float* scores,
             const Execution& execution) {
    std::vector<std::byte> centroids(static_cast<std::size_t>(p.blocks() * p.heads_k * p.head_dim) *
                                     size_of(centroid_type(p)));
    if (Status s = cpu::compute_centroids(p, k, centroids.data(), execution); !s.ok()) return s;
    return cpu::route_with_centroids(p, q, centroids.data(), selection, scores, execution);
}

}  // namespace mobalab::kernels::cpu
