#pragma once

#include <cuda.h>

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/ptx/copy.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/matrix.cuh"
#include "kernels/cuda/ptx/mbarrier.cuh"
#include "kernels/cuda/routing/best_of_groups.cuh"
#include "kernels/cuda/routing/fill_up_block.cuh"
#include "kernels/cuda/routing/hash_tiles.cuh"
#include "kernels/cuda/routing/route_rows.cuh"
#include "kernels/cuda/routing/route_work.cuh"
#include "kernels/cuda/routing/score_store.cuh"
#include "kernels/cuda/routing/score_tiles.cuh"
#include "kernels/cuda/routing/top_k_long.cuh"
#include "kernels/cuda/routing/top_k_short.cuh"

// Scores and exact top-k in one pass. A persistent thread block has one producer warp, which keeps the copy engine
// busy, and `Groups` warpgroups of 64 query rows each, which hold them in registers. A work item is one head and
// Groups * 64 rows; the tiles of centroids stream past it, highest blocks first, and the next item's queries arrive
// while this one is scored. The product of a tile is under way while the scores of the one before are sorted in.
namespace mobalab::kernels::cuda {

template <typename Shape>
__device__ __forceinline__ void route_produce(const RouteParams& p, const CUtensorMap* queries, const CUtensorMap* high,
                                              const CUtensorMap* low, const RouteShared<Shape>& shared) {
    std::uint32_t item_parity = 0;
    [[maybe_unused]] std::uint32_t filled_parity = 0;
    RingIndex<Shape::CentroidStages> c;
    for (RouteCursor cursor = first_item<Shape>(p); cursor.valid(p); cursor.advance(p)) {
        const RouteItem<Shape> item(p, cursor);
        if (item.tiles == 0) continue;
        const auto load_queries = [&](int turn) {
            const std::uint32_t parity = Shape::query_turns == 1 ? item_parity : turn;
#pragma unroll
            for (int stage = 0; stage < Shape::QueryStages; ++stage) {
                const int group = turn * Shape::QueryStages + stage;
                ptx::mbarrier_wait_idle(shared.query_empty + stage, parity ^ 1);
                ptx::mbarrier_arrive_expect(shared.query_full + group, Shape::query_bytes);
#pragma unroll
                for (int panel = 0; panel < Shape::panels; ++panel) {
                    ptx::tensor_load_4d(shared.queries + stage * Shape::query_bytes + panel * Shape::query_panel_bytes,
                                        queries, panel * 64, item.head,
                                        item.sequence.q.token + item.row0 + group * route_group_rows,
                                        item.sequence.q.batch, shared.query_full + group);
                }
            }
        };
        // Those of the second turn wait for a buffer, but need not wait for memory then.
        if constexpr (Shape::query_turns > 1) {
#pragma unroll
            for (int group = Shape::QueryStages; group < Shape::Groups; ++group) {
#pragma unroll
                for (int panel = 0; panel < Shape::panels; ++panel) {
                    ptx::tensor_prefetch_4d(queries, panel * 64, item.head,
                                            item.sequence.q.token + item.row0 + group * route_group_rows,
                                            item.sequence.q.batch);
                }
            }
        }
        const int key_head = item.head / p.heads_per_key_head;
        const int base = (p.column_base != nullptr ? __ldg(p.column_base + item.b) : item.b * p.columns_max) +
                         (p.first_block << p.sub_shift);
        const int loads = item.passes * item.tiles * Shape::Parts;
        // Queries of the second turn wait for groups to begin with this item, so first what these will need.
        constexpr int before_second_turn = Shape::CentroidStages - 2;
        load_queries(0);
        int tile = item.tiles - 1, part = 0;
        for (int load = 0; load < loads; ++load) {
            if (Shape::query_turns > 1 && load == before_second_turn) load_queries(1);
            ptx::mbarrier_wait_idle(shared.centroid_empty + c.stage, c.parity ^ 1);
            std::uint64_t* arrived = shared.centroid_full + c.stage;
            bool filled_up = false;
            if constexpr (Shape::divides) {
                filled_up = p.sub_block_keys > 0 && tile == item.tiles - 1;
                if (filled_up) arrived = shared.last_tile_arrived;
            }
            ptx::mbarrier_arrive_expect(arrived, Shape::centroid_bytes);
#pragma unroll
            for (int box = 0; box < Shape::panels * Shape::tile_blocks / route_box_blocks; ++box) {
                constexpr int boxes = Shape::tile_blocks / route_box_blocks;  // of a panel
                ptx::tensor_load_4d(shared.centroids + c.stage * Shape::centroid_bytes + box * route_box_blocks * 128,
                                    part == 0 ? high : low, box / boxes * 64, key_head,
                                    base + tile * Shape::tile_blocks + box % boxes * route_box_blocks, 0, arrived);
            }
            if constexpr (Shape::divides) {
                if (filled_up) {
                    ptx::mbarrier_wait_idle(arrived, filled_parity);
                    filled_parity ^= 1;
                    fill_up_last_block<Shape>(shared.centroids + c.stage * Shape::centroid_bytes,
                                              item.columns_with_keys(p) - tile * Shape::tile_blocks, p.sub_shift);
                    ptx::fence_async_proxy();
                    ptx::mbarrier_arrive(shared.centroid_full + c.stage);
                }
            }
            c.advance();
            if (++part == Shape::Parts) {
                part = 0;
                tile = tile > 0 ? tile - 1 : item.tiles - 1;
            }
        }
        if (Shape::query_turns > 1 && loads <= before_second_turn) load_queries(1);
        item_parity ^= 1;
    }
}

/// One warp of a warpgroup: the scores and lists of its 16 rows, item after item.
template <typename T, typename Shape>
class RouteConsumer {
public:
    __device__ __forceinline__ RouteConsumer(const RouteParams& params, const RouteShared<Shape>& route_shared)
        : p(params),
          shared(route_shared),
          lane(static_cast<int>(threadIdx.x) % 32),
          warp(static_cast<int>(threadIdx.x) / 32),
          group(warp / 4),
          tiles(route_shared),
          top(route_shared.top_k + warp * TopK::shared_bytes, params.slots, lane) {
        if constexpr (Tiles::queries_stay) tiles.shared_queries = queries();
    }

    __device__ __forceinline__ void run() {
        std::uint32_t item_parity = 0;
        for (RouteCursor cursor = first_item<Shape>(p); cursor.valid(p); cursor.advance(p)) {
            const RouteItem<Shape> item(p, cursor);
            if (item.tiles == 0) {
                if constexpr (!TopK::stores_scores) {
                    route_store<Shape>(p, item, nullptr, item.row0 + warp * warp_rows, lane);
                }
                continue;
            }
            if constexpr (Shape::Parts > 0) ptx::mbarrier_wait(shared.query_full + group, item_parity);
            item_parity ^= 1;
            find_best(cursor, item);
            if constexpr (!TopK::stores_scores) {
                const RouteItem<Shape> same = again(cursor);
                route_store<Shape>(p, same, &top, same.row0 + warp * warp_rows, lane);
                __syncwarp();
            }
        }
    }

private:
    using TopK = typename Shape::TopK;
    /// Products are not the scores yet.
    static constexpr bool makes_scores = Shape::scoring == Scoring::hashes || Shape::scoring == Scoring::best_of_group;
    using Tiles = std::conditional_t<Shape::scoring == Scoring::hashes, HashTiles<Shape>, ScoreTiles<T, Shape>>;

    __device__ __forceinline__ unsigned char* queries() const {
        return shared.queries + group % Shape::QueryStages * Shape::query_bytes;
    }
    /// The next item's may come.
    __device__ __forceinline__ void release_queries() const {
        __syncwarp();
        if (lane == 0) ptx::mbarrier_arrive(shared.query_empty + group % Shape::QueryStages);
    }
    /// The same item once more: what the loops seldom need is cheaper computed again than kept in registers.
    __device__ __forceinline__ RouteItem<Shape> again(const RouteCursor& cursor) const {
        RouteCursor here = cursor;
        asm volatile("" : "+r"(here.b), "+r"(here.tile));
        return RouteItem<Shape>(p, here);
    }

    __device__ __forceinline__ void find_best(const RouteCursor& cursor, const RouteItem<Shape>& item) {
        const int row0 = item.row0 + warp * warp_rows, sq = item.sequence.sq;
        // Of the last row. No other row of the warp has fewer by more than one block and p.ragged columns, except rows
        // without any, which collect nothing.
        int most = row0 < sq ? item.candidates(p, min(row0 + warp_rows, sq) - 1) : 0;
        asm volatile("" : "+r"(most));  // or it is computed again for every tile
        const int tile_count = item.tiles, passes = item.passes;
        tiles.load(queries(), group, warp % 4, lane);
        tiles.start();
        // The product was issued, so the fragments have arrived in their registers; before, nothing makes sure of it.
        if constexpr (Shape::Parts > 0 && !Tiles::queries_stay) release_queries();
        const bool any[2] = {item.candidates(p, row0 + lane / 4) > 0, item.candidates(p, row0 + lane / 4 + 8) > 0};
        if constexpr (TopK::stores_scores) {
            store_scores(cursor, most, tile_count);
        } else if constexpr (TopK::surveys) {
            survey_and_take(cursor, most, tile_count, passes, any);
        } else {
            take_and_cut(cursor, most, tile_count, any);
        }
        if constexpr (Tiles::queries_stay) release_queries();
        if constexpr (TopK::surveys) top.end();
    }

    /// Waits for the scores of the tile whose first column is `first`; false if no row of the warp has candidates in
    /// it.
    __device__ __forceinline__ bool finish(const RouteCursor& cursor, int first, int most) {
        tiles.finish(lane);
        return prepare(cursor, first, most);
    }
    /// Makes scores of products; false if no row of the warp has candidates in the tile.
    __device__ __forceinline__ bool prepare(const RouteCursor& cursor, int first, int most) {
        if (first >= most) return false;
        if constexpr (Shape::scoring == Scoring::hashes) {
            const RouteItem<Shape> item = again(cursor);
            tiles.draw(p, item, item.row0 + warp * warp_rows + lane / 4, p.first_block + first + 2 * (lane % 4));
        }
        if constexpr (Shape::scoring == Scoring::best_of_group) best_of_groups(tiles.d, p.sub_shift, lane);
        if (first + Shape::tile_blocks >=
            most - p.ragged) {  // whole blocks, as tile and block have powers of two of columns
            const RouteItem<Shape> item = again(cursor);
            const int row = item.row0 + warp * warp_rows + lane / 4;
            route_mask(tiles.d, first + 2 * (lane % 4), item.candidates(p, row), item.candidates(p, row + 8));
        }
        return true;
    }

    /// Every score of a tile in which some row of the warp has candidates.
    __device__ __forceinline__ void store_scores(const RouteCursor& cursor, int most, int tile_count) {
        const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * Shape::rows + warp * warp_rows;
        float* const scores = p.all_scores + row * p.score_pitch;
        for (int tile = tile_count - 1;; --tile) {
            const int first = tile * Shape::tile_blocks;
            if (finish(cursor, first, most)) top.store(tiles.d, scores + first, p.score_pitch);
            if (tile == 0) break;
            tiles.start();
        }
    }

    /// Long lists: a first pass over the tiles finds a bound that few scores reach, a second one collects those.
    __device__ __forceinline__ void survey_and_take(const RouteCursor& cursor, int most, int tile_count, int passes,
                                                    const bool (&any)[2]) {
        if (passes > 1) {
            top.begin_survey();
            for (int tile = tile_count - 1; tile >= 0; --tile) {
                if (finish(cursor, tile * Shape::tile_blocks, most)) top.survey(tiles.d);
                tiles.start();
            }
        }
        top.begin(any[0], any[1], passes > 1);
        for (int tile = tile_count - 1;; --tile) {
            const int first = tile * Shape::tile_blocks;
            if (finish(cursor, first, most)) {
                top.take(tiles.d, first);
            } else {
                top.take_nothing();
            }
            if (tile == 0) break;
            tiles.start();
            top.append(first);
        }
        top.append(0);
    }

    /// Short lists: candidates are appended and cut back to the best now and then, at growing distances.
    __device__ __forceinline__ void take_and_cut(const RouteCursor& cursor, int most, int tile_count,
                                                 const bool (&any)[2]) {
        top.begin(any[0], any[1]);
        int cut_at = TopK::first_cut, cut_tile = max(tile_count - cut_at, 0);
        int quick_below = 0;  // tiles after a cut that have columns of candidates alone, and floors that may be rough
        for (int tile = tile_count - 1;; --tile) {
            const int first = tile * Shape::tile_blocks;
            const std::uint64_t next = tiles.next();
            tiles.finish(lane);
            const bool quick = tile < quick_below && tile > cut_tile;
            if (!quick || !top.take_roughly(tiles.d)) {
                if constexpr (Shape::Parts > 0) ptx::wgmma_keep(tiles.d);  // or all tiles copy them first
                const int number = tile_count - tile;
                bool room = true;
                if (quick) {
                    room = top.take_less(number);
                } else if (prepare(cursor, first, most)) {
                    room = top.take(tiles.d, number) || top.take_less(number);
                } else {
                    top.take_nothing();
                }
                const bool due = tile == cut_tile;
                if (due || !room) {
                    const bool rough = top.append_and_cut(first, room, due);
                    if (tile == 0) break;
                    // prepare() says which tiles these are.
                    quick_below = rough && !makes_scores ? max(most - p.ragged - 1, 0) / Shape::tile_blocks : 0;
                    asm volatile("" : "+r"(quick_below));  // or it is computed again for every tile
                    if (due) {
                        cut_at = cut_at * TopK::cut_growth / 2;
                        cut_tile = max(tile_count - cut_at, 0);
                    }
                }
            }
            tiles.start(next);
            top.append(first);
        }
    }

    const RouteParams& p;
    const RouteShared<Shape>& shared;
    const int lane, warp, group;
    Tiles tiles;
    TopK top;
};

template <typename T, typename Shape>
__global__ void __launch_bounds__(Shape::threads, 1)
    route_kernel(const RouteParams p, const __grid_constant__ CUtensorMap queries,
                 const __grid_constant__ CUtensorMap high, const __grid_constant__ CUtensorMap low) {
    extern __shared__ __align__(1024) unsigned char raw[];  // as the 128-byte swizzle needs it
    const RouteShared<Shape> shared(raw);
    if (threadIdx.x == 0) {
        constexpr int consumer_warps = Shape::Groups * 4;
        for (int i = 0; i < Shape::Groups; ++i) ptx::mbarrier_init(shared.query_full + i, 1);
        for (int i = 0; i < Shape::QueryStages; ++i) ptx::mbarrier_init(shared.query_empty + i, 4);
        for (int i = 0; i < Shape::CentroidStages; ++i) {
            ptx::mbarrier_init(shared.centroid_full + i, 1);
            ptx::mbarrier_init(shared.centroid_empty + i, consumer_warps);
        }
        if constexpr (Shape::divides) ptx::mbarrier_init(shared.last_tile_arrived, 1);
        ptx::fence_mbarrier_init();
        *shared.centroids_address = ptx::shared_address(shared.centroids);
    }
    __syncthreads();
    ptx::wait_for_previous_kernel();
    if (threadIdx.x >= Shape::Groups * 128) {
        if constexpr (Shape::Groups > 1) ptx::set_registers_down<Shape::producer_registers>();
        if (Shape::Parts > 0 && threadIdx.x == Shape::Groups * 128) {
            route_produce<Shape>(p, &queries, &high, &low, shared);
        }
    } else {
        if constexpr (Shape::Groups > 1) ptx::set_registers_up<Shape::consumer_registers>();
        RouteConsumer<T, Shape>(p, shared).run();
    }
}

}  // namespace mobalab::kernels::cuda
