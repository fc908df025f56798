#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/ptx/copy.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/matrix.cuh"
#include "kernels/cuda/ptx/mbarrier.cuh"
#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/ptx/wgmma.cuh"
#include "kernels/cuda/routing/top_k_long.cuh"
#include "kernels/cuda/routing/top_k_short.cuh"
#include "kernels/cuda/tile/sequences.h"

// Scores and exact top-k in one pass. A persistent thread block has one producer warp, which keeps the copy engine
// busy, and `Groups` warpgroups of 64 query rows each, which hold them in registers. A work item is one head and
// Groups * 64 rows; the tiles of centroids stream past it, highest blocks first, and the next item's queries arrive
// while this one is scored. The product of a tile is under way while the scores of the one before are sorted in.
namespace mobalab::kernels::cuda {

struct RouteParams {
    Sequences sequences;
    std::int32_t heads_q, heads_per_key_head, slots;
    std::int32_t block_shift;                   // log2 of the block size
    std::uint32_t slots_inverse;                // ceil(2^20 / slots): divides up to 2^10 by a multiplication
    std::int32_t blocks_max;                    // of the longest sequence
    const std::int32_t* block_base;             // null: sequence b starts at block b * blocks_max
    std::int32_t row_tiles;                     // items per (sequence, head)
    std::int32_t step_b, step_head, step_tile;  // from one item of a thread block to its next
    std::int64_t tokens_q;
    std::int32_t* selection;
    float* scores;
};

inline constexpr int route_box_blocks = 64;  // centroids of one copy
inline constexpr int route_group_rows = 64;

/// Shapes of one instantiation: HeadDim is padded to a multiple of 64.
/// Groups take turns with the buffers of queries where these are fewer. Parts: 1, or 2 with low halves of centroids.
template <int HeadDim_, typename TopK_, int Groups_, int QueryStages_, int CentroidStages_, int Parts_>
struct RouteShape {
    using TopK = TopK_;
    static constexpr int HeadDim = HeadDim_, Groups = Groups_;
    static constexpr int QueryStages = QueryStages_, CentroidStages = CentroidStages_;
    static constexpr int Parts = Parts_;
    static_assert(CentroidStages >= Parts);
    static constexpr int query_turns = Groups / QueryStages;  // of a buffer in an item
    static_assert(Groups % QueryStages == 0 && query_turns <= 2);
    static constexpr int rows = Groups * route_group_rows;
    static constexpr int threads = (Groups + 1) * 128;
    // A thread starts with 65536 / threads registers, in steps of 8; with more than one group the producers give theirs
    // to the consumers.
    static constexpr int producer_registers = 24;
    static constexpr int consumer_registers = Groups == 4 ? 112 : Groups == 3 ? 160 : 240;
    static constexpr int tile_blocks = TopK::tile_blocks;
    static constexpr int steps = HeadDim / 16;  // products of a tile, one behind the other
    static constexpr int panels = HeadDim / 64;
    static constexpr int query_panel_bytes = route_group_rows * 128;
    static constexpr int query_bytes = panels * query_panel_bytes;  // of a group
    static constexpr int centroid_panel_bytes = tile_blocks * 128;
    static constexpr int centroid_bytes = panels * centroid_panel_bytes;
    static constexpr int barriers = Groups + QueryStages + 2 * CentroidStages;
    static constexpr int shared_bytes =
        QueryStages * query_bytes + CentroidStages * centroid_bytes + Groups * 4 * TopK::shared_bytes + barriers * 8;
    static_assert(shared_bytes <= 227 * 1024);
};

template <typename Shape>
struct RouteShared {
    unsigned char* queries;
    unsigned char* centroids;
    unsigned char* top_k;
    std::uint64_t *query_full, *query_empty;  // of each group, of each buffer
    std::uint64_t *centroid_full, *centroid_empty;

    __device__ __forceinline__ explicit RouteShared(unsigned char* raw) {
        queries = raw;
        centroids = queries + Shape::QueryStages * Shape::query_bytes;
        top_k = centroids + Shape::CentroidStages * Shape::centroid_bytes;
        query_full = reinterpret_cast<std::uint64_t*>(top_k + Shape::Groups * 4 * Shape::TopK::shared_bytes);
        query_empty = query_full + Shape::Groups;
        centroid_full = query_empty + Shape::QueryStages;
        centroid_empty = centroid_full + Shape::CentroidStages;
    }
};

/// A position in a ring of barriers.
template <int Stages>
struct RingIndex {
    int stage = 0;
    std::uint32_t parity = 0;
    __device__ __forceinline__ void advance() {
        if (++stage == Stages) {
            stage = 0;
            parity ^= 1;
        }
    }
};

/// The items of a thread block, one after the other: every gridDim.x-th of (sequence, head, rows), without divisions.
struct RouteCursor {
    int b, head, tile;

    __device__ __forceinline__ explicit RouteCursor(const RouteParams& p) {
        const int index = static_cast<int>(blockIdx.x), pair = index / p.row_tiles;
        tile = index % p.row_tiles;
        head = pair % p.heads_q;
        b = pair / p.heads_q;
    }
    __device__ __forceinline__ bool valid(const RouteParams& p) const { return b < p.sequences.batch; }
    __device__ __forceinline__ void advance(const RouteParams& p) {
        b += p.step_b;
        head += p.step_head;
        tile += p.step_tile;
        if (tile >= p.row_tiles) {
            tile -= p.row_tiles;
            ++head;
        }
        if (head >= p.heads_q) {
            head -= p.heads_q;
            ++b;
        }
    }
};

/// What producer and consumers derive alike from an item's place.
struct RouteItem {
    Sequence sequence;
    int b, head;
    int row0;    ///< first row, may be past the sequence
    int tiles;   ///< centroid tiles that some row of the item needs
    int passes;  ///< over these tiles

    __device__ __forceinline__ RouteItem(const RouteParams& p, const RouteCursor& at, int rows, int tile_blocks,
                                         bool surveys)
        : sequence(p.sequences.at(at.b)), b(at.b), head(at.head) {
        row0 = (p.row_tiles - 1 - at.tile) * rows;  // long rows first
        const int last = min(row0 + rows, sequence.sq) - 1;
        tiles = last < row0 ? 0 : (candidates(p, last) + tile_blocks - 1) / tile_blocks;
        passes = surveys && tiles > 2 ? 2 : 1;  // one that keeps nothing of two tiles is not worth it
    }
    /// Blocks entirely before the block of a row's position; none of a row past the sequence.
    __device__ __forceinline__ int candidates(const RouteParams& p, int row) const {
        return row < sequence.sq ? (row + sequence.shift()) >> p.block_shift : 0;
    }
};

template <typename Shape>
__device__ __forceinline__ void route_produce(const RouteParams& p, const CUtensorMap* queries, const CUtensorMap* high,
                                              const CUtensorMap* low, const RouteShared<Shape>& shared) {
    std::uint32_t item_parity = 0;
    RingIndex<Shape::CentroidStages> c;
    for (RouteCursor cursor(p); cursor.valid(p); cursor.advance(p)) {
        const RouteItem item(p, cursor, Shape::rows, Shape::tile_blocks, Shape::TopK::surveys);
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
        const int key_head = item.head / p.heads_per_key_head;
        const int base = p.block_base != nullptr ? __ldg(p.block_base + item.b) : item.b * p.blocks_max;
        const int loads = item.passes * item.tiles * Shape::Parts;
        // Queries of the second turn wait for groups to begin with this item, so first what these will need.
        constexpr int before_second_turn = Shape::CentroidStages - 2;
        load_queries(0);
        int tile = item.tiles - 1, part = 0;
        for (int load = 0; load < loads; ++load) {
            if (Shape::query_turns > 1 && load == before_second_turn) load_queries(1);
            ptx::mbarrier_wait_idle(shared.centroid_empty + c.stage, c.parity ^ 1);
            ptx::mbarrier_arrive_expect(shared.centroid_full + c.stage, Shape::centroid_bytes);
#pragma unroll
            for (int box = 0; box < Shape::panels * Shape::tile_blocks / route_box_blocks; ++box) {
                constexpr int boxes = Shape::tile_blocks / route_box_blocks;  // of a panel
                ptx::tensor_load_4d(shared.centroids + c.stage * Shape::centroid_bytes + box * route_box_blocks * 128,
                                    part == 0 ? high : low, box / boxes * 64, key_head,
                                    base + tile * Shape::tile_blocks + box % boxes * route_box_blocks, 0,
                                    shared.centroid_full + c.stage);
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

/// The A fragments of a warp's 16 rows.
template <typename Shape>
struct QueryFragments {
    std::uint32_t a[Shape::steps][4];

    __device__ __forceinline__ void load(const unsigned char* queries, int warp_in_group, int lane) {
        const int row = warp_in_group * warp_rows + lane % 16;
#pragma unroll
        for (int step = 0; step < Shape::steps; ++step) {
            const int piece = 2 * (step % 4) + lane / 16;  // 16 bytes of the 128-byte swizzle
            ptx::ldmatrix_x4(a[step],
                             queries + step / 4 * Shape::query_panel_bytes + row * 128 + (piece ^ (row % 8)) * 16);
        }
    }
};

/// Columns that are no candidate of their row become -inf.
template <int Count>
__device__ __forceinline__ void route_mask(float (&d)[Count], int first_column, int candidates0, int candidates1) {
#pragma unroll
    for (int i = 0; i < Count; i += 4) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            const int column = first_column + 2 * i + e;
            d[i + e] = column < candidates0 ? d[i + e] : -INFINITY;
            d[i + 2 + e] = column < candidates1 ? d[i + 2 + e] : -INFINITY;
        }
    }
}

/// Writes the lists of a warp's rows: one contiguous run of integers.
template <typename TopK>
__device__ __forceinline__ void route_store(const RouteParams& p, const RouteItem& item, const TopK* top, int row0,
                                            int lane) {
    const int rows = min(warp_rows, item.sequence.sq - row0);
    const std::int64_t at = (item.head * p.tokens_q + item.sequence.q_begin + row0) * p.slots;
    for (int i = lane; i < rows * p.slots; i += 32) {
        const int row = static_cast<int>((static_cast<std::uint32_t>(i) * p.slots_inverse) >> 20);
        const int slot = i - row * p.slots;
        p.selection[at + i] = top == nullptr ? -1 : top->final_block(row, slot);
        if (p.scores != nullptr) p.scores[at + i] = top == nullptr ? -INFINITY : top->final_score(row, slot);
    }
}

/// The tiles of centroids as one warp of a warpgroup sees them, and its scores of one tile.
template <typename T, typename Shape>
struct ScoreTiles {
    static constexpr int count = Shape::tile_blocks / 2;
    /// 64 registers of queries beside those of a survey would be too many.
    static constexpr bool queries_in_registers = Shape::HeadDim <= 128 || !Shape::TopK::surveys;

    float d[count];                       // as ptx::Wgmma writes it
    QueryFragments<Shape> queries;        // or
    const unsigned char* shared_queries;  // of the warpgroup
    RingIndex<Shape::CentroidStages> ring;

    /// Starts the product of the next tile. Every warp of the warpgroup does the same.
    __device__ __forceinline__ void start(const RouteShared<Shape>& shared) {
        multiply<false>(next(shared));
        if constexpr (Shape::Parts > 1) multiply<true>(next(shared));
    }
    /// Waits for that product and gives the centroids back.
    __device__ __forceinline__ void finish(const RouteShared<Shape>& shared, int lane) {
        ptx::wgmma_wait<0>();
        ptx::wgmma_keep(d);
        __syncwarp();
#pragma unroll
        for (int back = 1; back <= Shape::Parts; ++back) {
            const int stage = ring.stage - back + (ring.stage < back ? Shape::CentroidStages : 0);
            ptx::mbarrier_arrive_if(lane == 0, shared.centroid_empty + stage);
        }
    }

private:
    /// Tells the compiler that a descriptor is the same in all lanes.
    static __device__ __forceinline__ std::uint64_t uniform(std::uint64_t descriptor) {
        const std::uint32_t low = __shfl_sync(full_warp, static_cast<std::uint32_t>(descriptor), 0);
        return (descriptor >> 32 << 32) | low;
    }
    __device__ __forceinline__ const unsigned char* next(const RouteShared<Shape>& shared) {
        const int stage = ring.stage;
        ptx::mbarrier_wait(shared.centroid_full + stage, ring.parity);
        ring.advance();
        return shared.centroids + stage * Shape::centroid_bytes;
    }
    template <bool Accumulate>
    __device__ __forceinline__ void multiply(const unsigned char* centroids) {
        using Product = ptx::Wgmma<T, Shape::tile_blocks, false>;
        const std::uint64_t b = uniform(ptx::descriptor_k_major(centroids));
        std::uint64_t a = 0;
        if constexpr (!queries_in_registers) a = uniform(ptx::descriptor_k_major(shared_queries));
        ptx::wgmma_fence();
#pragma unroll
        for (int step = 0; step < Shape::steps; ++step) {
            const auto at = [&](std::uint64_t descriptor, int panel_bytes) {
                return ptx::descriptor_advance(descriptor, step / 4 * panel_bytes + step % 4 * 32);
            };
            const int accumulate = Accumulate || step > 0 ? 1 : 0;
            if constexpr (queries_in_registers) {
                Product::registers_a(d, queries.a[step], at(b, Shape::centroid_panel_bytes), accumulate);
            } else {
                Product::shared(d, at(a, Shape::query_panel_bytes), at(b, Shape::centroid_panel_bytes), accumulate);
            }
        }
        ptx::wgmma_commit();
    }
};

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
          top(route_shared.top_k + warp * TopK::shared_bytes, params.slots, lane) {
        if constexpr (!Tiles::queries_in_registers) tiles.shared_queries = queries();
    }

    __device__ __forceinline__ void run() {
        std::uint32_t item_parity = 0;
        for (RouteCursor cursor(p); cursor.valid(p); cursor.advance(p)) {
            const RouteItem item(p, cursor, Shape::rows, Shape::tile_blocks, TopK::surveys);
            if (item.tiles == 0) {
                route_store<TopK>(p, item, nullptr, item.row0 + warp * warp_rows, lane);
                continue;
            }
            ptx::mbarrier_wait(shared.query_full + group, item_parity);
            item_parity ^= 1;
            find_best(cursor, item);
            const RouteItem same = again(cursor);
            route_store(p, same, &top, same.row0 + warp * warp_rows, lane);
            __syncwarp();
        }
    }

private:
    using TopK = typename Shape::TopK;
    using Tiles = ScoreTiles<T, Shape>;

    __device__ __forceinline__ unsigned char* queries() const {
        return shared.queries + group % Shape::QueryStages * Shape::query_bytes;
    }
    /// The next item's may come.
    __device__ __forceinline__ void release_queries() const {
        __syncwarp();
        if (lane == 0) ptx::mbarrier_arrive(shared.query_empty + group % Shape::QueryStages);
    }
    /// The same item once more: what the loops seldom need is cheaper computed again than kept in registers.
    __device__ __forceinline__ RouteItem again(const RouteCursor& cursor) const {
        RouteCursor here = cursor;
        asm volatile("" : "+r"(here.b), "+r"(here.tile));
        return RouteItem(p, here, Shape::rows, Shape::tile_blocks, TopK::surveys);
    }

    __device__ __forceinline__ void find_best(const RouteCursor& cursor, const RouteItem& item) {
        const int row0 = item.row0 + warp * warp_rows, sq = item.sequence.sq;
        // Of the last row. Blocks have at least 16 keys, so no other row of the warp has fewer by more than one, except
        // rows without any, which collect nothing.
        int most = row0 < sq ? item.candidates(p, min(row0 + warp_rows, sq) - 1) : 0;
        asm volatile("" : "+r"(most));  // or it is computed again for every tile
        const int tile_count = item.tiles, passes = item.passes;
        if constexpr (Tiles::queries_in_registers) tiles.queries.load(queries(), warp % 4, lane);
        tiles.start(shared);
        // The product was issued, so the fragments have arrived in their registers; before, nothing makes sure of it.
        if constexpr (Tiles::queries_in_registers) release_queries();
        const bool any[2] = {item.candidates(p, row0 + lane / 4) > 0, item.candidates(p, row0 + lane / 4 + 8) > 0};
        if constexpr (TopK::surveys) {
            survey_and_take(cursor, most, tile_count, passes, any);
        } else {
            take_and_cut(cursor, most, tile_count, any);
        }
        if constexpr (!Tiles::queries_in_registers) release_queries();
        if constexpr (TopK::surveys) top.end();
    }

    /// Waits for the scores of the tile whose first block is `first`; false if no row of the warp has candidates in it.
    __device__ __forceinline__ bool finish(const RouteCursor& cursor, int first, int most) {
        tiles.finish(shared, lane);
        if (first >= most) return false;
        if (first + Shape::tile_blocks >= most) {
            const RouteItem item = again(cursor);
            const int row = item.row0 + warp * warp_rows + lane / 4;
            route_mask(tiles.d, first + 2 * (lane % 4), item.candidates(p, row), item.candidates(p, row + 8));
        }
        return true;
    }

    /// Long lists: a first pass over the tiles finds a bound that few scores reach, a second one collects those.
    __device__ __forceinline__ void survey_and_take(const RouteCursor& cursor, int most, int tile_count, int passes,
                                                    const bool (&any)[2]) {
        if (passes > 1) {
            top.begin_survey();
            for (int tile = tile_count - 1; tile >= 0; --tile) {
                if (finish(cursor, tile * Shape::tile_blocks, most)) top.survey(tiles.d);
                tiles.start(shared);
            }
        }
        top.begin(any[0], any[1], passes > 1);
        for (int tile = tile_count - 1;; --tile) {
            const int first = tile * Shape::tile_blocks;
            if (finish(cursor, first, most)) top.take(tiles.d, first);
            if (tile == 0) break;
            tiles.start(shared);
        }
    }

    /// Short lists: candidates are appended and cut back to the best now and then, at growing distances.
    __device__ __forceinline__ void take_and_cut(const RouteCursor& cursor, int most, int tile_count,
                                                 const bool (&any)[2]) {
        top.begin(any[0], any[1]);
        int cut_at = TopK::first_cut;
        for (int tile = tile_count - 1;; --tile) {
            const int first = tile * Shape::tile_blocks, number = tile_count - tile;
            const bool due = tile == 0 || number == cut_at;
            bool room = true;
            if (finish(cursor, first, most)) {
                room = top.take(tiles.d, number) || top.take_less(number);
            } else {
                top.take_nothing();
            }
            if (due || !room) {
                top.append_and_cut(first, room, due);
                if (tile == 0) break;
                if (due) cut_at = cut_at * TopK::cut_growth / 2;
            }
            tiles.start(shared);
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
        ptx::fence_mbarrier_init();
    }
    __syncthreads();
    ptx::wait_for_previous_kernel();
    if (threadIdx.x >= Shape::Groups * 128) {
        if constexpr (Shape::Groups > 1) ptx::set_registers_down<Shape::producer_registers>();
        if (threadIdx.x == Shape::Groups * 128) route_produce<Shape>(p, &queries, &high, &low, shared);
    } else {
        if constexpr (Shape::Groups > 1) ptx::set_registers_up<Shape::consumer_registers>();
        RouteConsumer<T, Shape>(p, shared).run();
    }
}

}  // namespace mobalab::kernels::cuda
