#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/portable/routing/score_products.cuh"
#include "kernels/cuda/portable/routing/summary_pieces.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/routing/best_of_groups.cuh"
#include "kernels/cuda/routing/hash_tiles.cuh"
#include "kernels/cuda/routing/route_rows.cuh"
#include "kernels/cuda/routing/score_store.cuh"
#include "kernels/cuda/routing/top_k_long.cuh"
#include "kernels/cuda/routing/top_k_short.cuh"

// Scores and exact top-k in one pass on mma.sync and cp.async. A work item is one head and some rows, 16 of them a
// warp; tiles of summaries stream past it, highest blocks first. The lists are those of the Hopper path
// (routing/top_k_*), so selections differ from its only where the order of a sum shows.
namespace mobalab::kernels::cuda::portable {

/// One warp of a thread block: the scores and lists of its 16 rows, item after item.
template <typename Shape>
class Router {
public:
    __device__ __forceinline__ Router(const RouteParams& params, unsigned char* shared)
        : p(params),
          path(params.of_path),
          lane(static_cast<int>(threadIdx.x) % 32),
          warp(static_cast<int>(threadIdx.x) / 32),
          pieces(params, shared),
          top(shared + Shape::buffers * Shape::piece_bytes + warp * TopK::shared_bytes, params.of_path.slots, lane) {}

    __device__ __forceinline__ void run() {
        for (RouteCursor cursor = first_item<Shape>(path); cursor.valid(path); cursor.advance(path)) {
            const RouteItem<Shape> item(path, cursor);
            if (item.tiles == 0) {
                if constexpr (!TopK::stores_scores) route_store<Shape>(path, item, nullptr, first_row(item), lane);
                continue;
            }
            find_best(cursor, item);
            if constexpr (!TopK::stores_scores) {
                const RouteItem<Shape> same = again(cursor);
                route_store<Shape>(path, same, &top, first_row(same), lane);
                __syncwarp();
            }
        }
    }

private:
    using TopK = typename Shape::TopK;

    __device__ __forceinline__ int first_row(const RouteItem<Shape>& item) const {
        return item.row0 + warp * warp_rows;
    }
    /// The same item once more: what the loops seldom need is cheaper computed again than kept in registers.
    __device__ __forceinline__ RouteItem<Shape> again(const RouteCursor& cursor) const {
        RouteCursor here = cursor;
        asm volatile("" : "+r"(here.b), "+r"(here.tile));
        return RouteItem<Shape>(path, here);
    }

    __device__ __forceinline__ void find_best(const RouteCursor& cursor, const RouteItem<Shape>& item) {
        const int row0 = first_row(item), sq = item.sequence.sq;
        // Of the last row. No other row of the warp has fewer by more than one block and path.ragged columns, except
        // rows without any, which collect nothing.
        most = row0 < sq ? item.candidates(path, min(row0 + warp_rows, sq) - 1) : 0;
        asm volatile("" : "+r"(most));  // or it is computed again for every tile
        if constexpr (Shape::HeadDim > 0) {
            pieces.begin(item);
            queries.load(p, item, row0, lane);
        }
        const bool any[2] = {item.candidates(path, row0 + lane / 4) > 0,
                             item.candidates(path, row0 + lane / 4 + 8) > 0};
        if constexpr (TopK::stores_scores) {
            store_scores(cursor, item.tiles);
        } else if constexpr (TopK::surveys) {
            survey_and_take(cursor, item.tiles, item.passes, any);
        } else {
            take_and_cut(cursor, item.tiles, any);
        }
    }

    /// The products of a tile, in d. Pieces pass every warp, whether it needs them or not. next: the tile after it,
    /// negative if there is none.
    template <int Piece>
    __device__ __forceinline__ void multiply(int tile, int next, bool needed) {
#pragma unroll
        for (int i = 0; i < Shape::piece_values; ++i) d[Piece * Shape::piece_values + i] = 0.0f;
        constexpr bool last_piece = Piece + 1 == Shape::pieces;
        for (int part = 0; part < p.parts; ++part) {
            const bool last_part = part + 1 == p.parts;
            const std::uint32_t summaries = pieces.next(last_part && last_piece ? next : tile,
                                                        !last_part    ? Piece
                                                        : !last_piece ? Piece + 1
                                                                      : 0,
                                                        last_part ? 0 : part + 1);
            if (needed) add_products<Piece>(p, d, summaries, queries, part, lane);
        }
        if constexpr (!last_piece) multiply<Piece + 1>(tile, next, needed);
    }

    /// Scores of a tile; false if no row of the warp has candidates in it.
    __device__ __forceinline__ bool score(const RouteCursor& cursor, int tile, int next) {
        const int first = tile * Shape::tile_blocks;
        const bool needed = first < most;
        const int column = first + 2 * (lane % 4);
        if constexpr (Shape::HeadDim > 0) {
            multiply<0>(tile, next, needed);
            if (!needed) return false;
        } else {
            if (!needed) return false;
            const RouteItem<Shape> item = again(cursor);
            draw_hashes(d, path, item, first_row(item) + lane / 4, path.first_block + column);
        }
        if (first + Shape::tile_blocks >= most - path.ragged) {
            const RouteItem<Shape> item = again(cursor);
            const int row = first_row(item) + lane / 4;
            const int columns = path.sub_block_keys > 0 ? item.columns_with_keys(path) : most;
            route_mask(d, column, min(item.candidates(path, row), columns),
                       min(item.candidates(path, row + 8), columns));
        }
        if constexpr (Shape::HeadDim > 0) {
            if (path.sub_shift > 0) best_of_groups(d, path.sub_shift, lane);  // empty ones are hidden
        }
        return true;
    }

    /// Every score of a tile in which some row of the warp has candidates.
    __device__ __forceinline__ void store_scores(const RouteCursor& cursor, int tiles) {
        const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * Shape::rows + warp * warp_rows;
        float* const scores = path.all_scores + row * path.score_pitch;
        for (int tile = tiles - 1; tile >= 0; --tile) {
            const int first = tile * Shape::tile_blocks;
            if (score(cursor, tile, tile - 1)) top.store(d, scores + first, path.score_pitch);
        }
    }

    /// Long lists: a first pass over the tiles finds a bound that few scores reach, a second one collects those.
    __device__ __forceinline__ void survey_and_take(const RouteCursor& cursor, int tiles, int passes,
                                                    const bool (&any)[2]) {
        if (passes > 1) {
            top.begin_survey();
            for (int tile = tiles - 1; tile >= 0; --tile) {
                if (score(cursor, tile, tile > 0 ? tile - 1 : tiles - 1)) top.survey(d);
            }
        }
        top.begin(any[0], any[1], passes > 1);
        for (int tile = tiles - 1; tile >= 0; --tile) {
            if (!score(cursor, tile, tile - 1)) continue;
            top.take(d, tile * Shape::tile_blocks);
            top.append(tile * Shape::tile_blocks);
        }
        top.end();
    }

    /// Short lists: candidates are appended and cut back to the best now and then, at growing distances.
    __device__ __forceinline__ void take_and_cut(const RouteCursor& cursor, int tiles, const bool (&any)[2]) {
        top.begin(any[0], any[1]);
        int cut_at = TopK::first_cut;
        for (int tile = tiles - 1; tile >= 0; --tile) {
            const int first = tile * Shape::tile_blocks, number = tiles - tile;
            const bool due = tile == 0 || number == cut_at;
            bool room = true;
            if (score(cursor, tile, tile - 1)) {
                room = top.take(d, number) || top.take_less(number);
            } else {
                top.take_nothing();
            }
            if (due || !room) {
                top.append_and_cut(first, room, due);
                if (due) cut_at = cut_at * TopK::cut_growth / 2;
            } else {
                top.append(first);
            }
        }
    }

    const RouteParams& p;
    const cuda::RouteParams& path;
    const int lane, warp;
    int most = 0;  // candidates of any row of the warp
    float d[Shape::values];
    QueryFragments<Shape> queries;
    SummaryPieces<Shape> pieces;
    TopK top;
};

/// Thread blocks that the compiler should make room for in the registers: not more than shared memory has room for.
template <typename Shape>
constexpr int residents() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
    constexpr int shared_memory = 164 * 1024;  // of a multiprocessor of 8.0; the others have less
    return std::min(Shape::Residents, shared_memory / (Shape::shared_bytes + 1024));
#else
    return Shape::Residents;
#endif
}

template <typename Shape>
__global__ void __launch_bounds__(Shape::threads, residents<Shape>())
    route_kernel(const __grid_constant__ RouteParams p) {
    extern __shared__ __align__(1024) unsigned char raw[];
    ptx::wait_for_previous_kernel();
    Router<Shape>(p, raw).run();
}

}  // namespace mobalab::kernels::cuda::portable
