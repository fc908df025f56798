#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/ptx/copy.cuh"
#include "kernels/cuda/ptx/matrix.cuh"
#include "kernels/cuda/ptx/mbarrier.cuh"
#include "kernels/cuda/ptx/wgmma.cuh"
#include "kernels/cuda/sequences.h"
#include "kernels/cuda/top_k.cuh"

// Scores and exact top-k in one pass. A persistent thread block has one producer warp, which keeps the copy engine
// busy, and `Groups` warpgroups of 64 query rows each. A work item is one head and Groups * 64 rows; the tiles of 128
// centroids stream past it, highest blocks first, and the next item's queries arrive while this one is scored.
namespace mobalab::kernels::cuda {

struct RouteParams {
    Sequences sequences;
    std::int32_t heads_q, heads_per_key_head, slots;
    std::int32_t block_shift;        // log2 of the block size
    std::uint32_t slots_inverse;     // ceil(2^20 / slots): divides up to 2^10 by a multiplication
    std::int32_t blocks_max;         // of the longest sequence
    const std::int32_t* block_base;  // null: sequence b starts at block b * blocks_max
    std::int32_t parts;              // 1, or 2 with low halves
    std::int32_t row_tiles;          // items per (sequence, head)
    std::int32_t items;
    std::int64_t tokens_q;
    std::int32_t* selection;
    float* scores;
};

inline constexpr int route_tile_blocks = 128;
inline constexpr int route_group_rows = 64;

/// Items of up to so many tiles are scored twice: the first pass only finds bounds, so the second keeps little more
/// than the winners. Matrix products are cheaper than merging lists until bounds of earlier tiles are good.
inline constexpr int route_two_pass_tiles = 8;

/// Shapes of one instantiation: HeadDim is padded to a multiple of 64.
template <int HeadDim_, typename Lists_, int Groups_, int QueryStages_, int CentroidStages_>
struct RouteShape {
    using Lists = Lists_;
    static constexpr int HeadDim = HeadDim_, Groups = Groups_;
    static constexpr int QueryStages = QueryStages_, CentroidStages = CentroidStages_;
    static constexpr int rows = Groups * route_group_rows;
    static constexpr int threads = (Groups + 1) * 128;
    // A thread starts with 65536 / threads registers; with more than one group the producers give theirs to the
    // consumers.
    static constexpr int producer_registers = 24;
    static constexpr int consumer_registers = Groups == 3 ? 160 : 240;
    static constexpr int panels = HeadDim / 64;
    static constexpr int query_panel_bytes = route_group_rows * 128;
    static constexpr int query_bytes = Groups * panels * query_panel_bytes;
    static constexpr int centroid_panel_bytes = route_tile_blocks * 128;
    static constexpr int centroid_bytes = panels * centroid_panel_bytes;
    static constexpr int lists_bytes = Groups * 4 * Lists::warp_keys * static_cast<int>(sizeof(Key));
    static constexpr int parking_bytes = Groups * 4 * WarpTopK<Lists>::parking_floats * static_cast<int>(sizeof(float));
    static constexpr int barriers = 2 * (QueryStages + CentroidStages);
    static constexpr int shared_bytes =
        1024 + QueryStages * query_bytes + CentroidStages * centroid_bytes + lists_bytes + parking_bytes + barriers * 8;
    static_assert(shared_bytes <= 227 * 1024);
};

template <typename Shape>
struct RouteShared {
    unsigned char* queries;
    unsigned char* centroids;
    Key* lists;
    float* parking;
    std::uint64_t *query_full, *query_empty, *centroid_full, *centroid_empty;

    __device__ __forceinline__ explicit RouteShared(unsigned char* raw) {
        queries = raw + (1024 - ptx::shared_address(raw) % 1024) % 1024;
        centroids = queries + Shape::QueryStages * Shape::query_bytes;
        parking = reinterpret_cast<float*>(centroids + Shape::CentroidStages * Shape::centroid_bytes);
        lists = reinterpret_cast<Key*>(parking + Shape::parking_bytes / 4);
        query_full = reinterpret_cast<std::uint64_t*>(lists + Shape::lists_bytes / 8);
        query_empty = query_full + Shape::QueryStages;
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

/// What producer and consumers derive alike from an item's number.
struct RouteItem {
    Sequence sequence;
    int b, head;
    int row0;    ///< first row, may be past the sequence
    int tiles;   ///< centroid tiles that some row of the item needs
    int passes;  ///< over these tiles

    __device__ __forceinline__ RouteItem(const RouteParams& p, int index, int rows, bool two_passes) {
        const int pair = index / p.row_tiles;
        b = pair / p.heads_q;
        head = pair % p.heads_q;
        sequence = p.sequences.at(b);
        row0 = (p.row_tiles - 1 - index % p.row_tiles) * rows;  // long rows first
        const int last = min(row0 + rows, sequence.sq) - 1;
        tiles = last < row0 ? 0 : (candidates(p, last) + route_tile_blocks - 1) / route_tile_blocks;
        passes = two_passes && tiles <= route_two_pass_tiles ? 2 : 1;
    }
    /// Blocks entirely before the block of a row's position.
    __device__ __forceinline__ int candidates(const RouteParams& p, int row) const {
        return (row + sequence.shift()) >> p.block_shift;
    }
};

template <typename Shape>
__device__ __forceinline__ void route_produce(const RouteParams& p, const CUtensorMap* queries, const CUtensorMap* high,
                                              const CUtensorMap* low, const RouteShared<Shape>& shared) {
    RingIndex<Shape::QueryStages> q;
    RingIndex<Shape::CentroidStages> c;
    for (int index = static_cast<int>(blockIdx.x); index < p.items; index += static_cast<int>(gridDim.x)) {
        const RouteItem item(p, index, Shape::rows, Shape::Lists::find_bounds);
        if (item.tiles == 0) continue;
        ptx::mbarrier_wait(shared.query_empty + q.stage, q.parity ^ 1);
        ptx::mbarrier_arrive_expect(shared.query_full + q.stage, Shape::query_bytes);
        unsigned char* to = shared.queries + q.stage * Shape::query_bytes;
#pragma unroll
        for (int group = 0; group < Shape::Groups; ++group) {
#pragma unroll
            for (int panel = 0; panel < Shape::panels; ++panel) {
                ptx::tensor_load_3d(to + (group * Shape::panels + panel) * Shape::query_panel_bytes, queries,
                                    panel * 64, item.head, item.sequence.q_begin + item.row0 + group * route_group_rows,
                                    shared.query_full + q.stage);
            }
        }
        q.advance();
        const int key_head = item.head / p.heads_per_key_head;
        const int base = p.block_base != nullptr ? __ldg(p.block_base + item.b) : item.b * p.blocks_max;
        for (int pass = 0; pass < item.passes; ++pass) {
            for (int tile = item.tiles - 1; tile >= 0; --tile) {
                for (int part = 0; part < p.parts; ++part) {
                    ptx::mbarrier_wait(shared.centroid_empty + c.stage, c.parity ^ 1);
                    ptx::mbarrier_arrive_expect(shared.centroid_full + c.stage, Shape::centroid_bytes);
#pragma unroll
                    for (int panel = 0; panel < Shape::panels; ++panel) {
                        ptx::tensor_load_3d(
                            shared.centroids + c.stage * Shape::centroid_bytes + panel * Shape::centroid_panel_bytes,
                            part == 0 ? high : low, panel * 64, key_head, base + tile * route_tile_blocks,
                            shared.centroid_full + c.stage);
                    }
                    c.advance();
                }
            }
        }
    }
}

__device__ __forceinline__ std::uint64_t uniform(std::uint64_t descriptor) {
    const std::uint32_t low = __shfl_sync(full_warp, static_cast<std::uint32_t>(descriptor), 0);
    return (descriptor >> 32 << 32) | low;
}

/// Scores of 64 rows and 128 blocks; every warp of the warpgroup calls it.
template <typename T, typename Shape>
__device__ __forceinline__ void route_multiply(float (&d)[64], const unsigned char* queries,
                                               const unsigned char* centroids, bool accumulate) {
    // Broadcasts tell the compiler that the descriptors are the same in all lanes.
    const std::uint64_t a = uniform(ptx::descriptor_k_major(queries)), b = uniform(ptx::descriptor_k_major(centroids));
    ptx::wgmma_keep(d);
    ptx::wgmma_fence();
#pragma unroll
    for (int panel = 0; panel < Shape::panels; ++panel) {
#pragma unroll
        for (int step = 0; step < 4; ++step) {
            ptx::Wgmma<T, 128, false>::shared(
                d, ptx::descriptor_advance(a, panel * Shape::query_panel_bytes + step * 32),
                ptx::descriptor_advance(b, panel * Shape::centroid_panel_bytes + step * 32),
                accumulate || panel + step > 0 ? 1 : 0);
        }
    }
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::wgmma_keep(d);
}

/// Columns that are no candidate of their row become -inf.
__device__ __forceinline__ void route_mask(float (&d)[64], int first_column, int candidates0, int candidates1) {
#pragma unroll
    for (int i = 0; i < 64; i += 4) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            const int column = first_column + 2 * i + e;
            d[i + e] = column < candidates0 ? d[i + e] : -INFINITY;
            d[i + 2 + e] = column < candidates1 ? d[i + 2 + e] : -INFINITY;
        }
    }
}

/// Writes the lists of a warp's rows: one contiguous run of integers.
template <typename Lists>
__device__ __forceinline__ void route_store(const RouteParams& p, const RouteItem& item, const Key* lists, int row0,
                                            int lane) {
    const int rows = min(warp_rows, item.sequence.sq - row0);
    const std::int64_t at = (item.head * p.tokens_q + item.sequence.q_begin + row0) * p.slots;
    for (int i = lane; i < rows * p.slots; i += 32) {
        const int row = static_cast<int>((static_cast<std::uint32_t>(i) * p.slots_inverse) >> 20);
        const Key key = lists == nullptr ? empty_key : Lists::final_list(lists, row)[i - row * p.slots];
        p.selection[at + i] = key_block(key);
        if (p.scores != nullptr) p.scores[at + i] = key_score(key);
    }
}

template <typename T, typename Shape>
__device__ __forceinline__ void route_consume(const RouteParams& p, const RouteShared<Shape>& shared) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int group = warp / 4;
    RingIndex<Shape::QueryStages> q;
    RingIndex<Shape::CentroidStages> c;
    WarpTopK<typename Shape::Lists> top;
    top.shared = shared.lists + warp * Shape::Lists::warp_keys;
    top.parking = shared.parking + warp * WarpTopK<typename Shape::Lists>::parking_floats;
    top.lane = lane;
    top.slots = p.slots;

    for (int index = static_cast<int>(blockIdx.x); index < p.items; index += static_cast<int>(gridDim.x)) {
        const RouteItem item(p, index, Shape::rows, Shape::Lists::find_bounds);
        const int row0 = item.row0 + warp * warp_rows;
        const int sq = item.sequence.sq;
        if (item.tiles == 0) {
            route_store<typename Shape::Lists>(p, item, nullptr, row0, lane);
            continue;
        }
        const int mine = row0 + lane / 4;
        const int candidates0 = mine < sq ? item.candidates(p, mine) : 0;
        const int candidates1 = mine + 8 < sq ? item.candidates(p, mine + 8) : 0;
        // What the warp needs at all, and from where on (down) no column needs a mask.
        const int most = row0 < sq ? item.candidates(p, min(row0 + warp_rows, sq) - 1) : 0;
        const int least = row0 + warp_rows <= sq ? item.candidates(p, row0) : 0;
        const int group_row0 = item.row0 + group * route_group_rows;
        const int group_most = group_row0 < sq ? item.candidates(p, min(group_row0 + route_group_rows, sq) - 1) : 0;
        ptx::mbarrier_wait(shared.query_full + q.stage, q.parity);
        const unsigned char* queries =
            shared.queries + q.stage * Shape::query_bytes + group * Shape::panels * Shape::query_panel_bytes;
        // One pass over the tiles, the highest blocks first; `use` sees the scores that are not masked as a whole.
        const auto pass = [&](const auto& use) {
            for (int tile = item.tiles - 1; tile >= 0; --tile) {
                const int first = tile * route_tile_blocks;
                float d[64];
                for (int part = 0; part < p.parts; ++part) {
                    ptx::mbarrier_wait(shared.centroid_full + c.stage, c.parity);
                    if (first < group_most) {
                        route_multiply<T, Shape>(d, queries, shared.centroids + c.stage * Shape::centroid_bytes,
                                                 part > 0);
                    }
                    __syncwarp();
                    if (lane == 0) ptx::mbarrier_arrive(shared.centroid_empty + c.stage);
                    c.advance();
                }
                if (first >= most) continue;
                if (first + route_tile_blocks > least) route_mask(d, first + 2 * (lane % 4), candidates0, candidates1);
                use(d, first);
            }
        };
        float found0 = -INFINITY, found1 = -INFINITY;
        if (item.passes > 1) {
            typename WarpTopK<typename Shape::Lists>::Finder finder;
            pass([&](const float(&d)[64], int) { finder.add(d); });
            found0 = finder.bound(0);
            found1 = finder.bound(1);
        }
        top.begin(candidates0 == 0 ? INFINITY : found0, candidates1 == 0 ? INFINITY : found1);
        pass([&](const float(&d)[64], int first) { top.scan(d, first, item.passes > 1); });
        if (lane == 0) ptx::mbarrier_arrive(shared.query_empty + q.stage);
        q.advance();
        top.end();
        route_store<typename Shape::Lists>(p, item, top.shared, row0, lane);
        __syncwarp();
    }
}

template <typename T, typename Shape>
__global__ void __launch_bounds__(Shape::threads, 1)
    route_kernel(const RouteParams p, const __grid_constant__ CUtensorMap queries,
                 const __grid_constant__ CUtensorMap high, const __grid_constant__ CUtensorMap low) {
    extern __shared__ unsigned char raw[];
    const RouteShared<Shape> shared(raw);
    if (threadIdx.x == 0) {
        constexpr int consumer_warps = Shape::Groups * 4;
        for (int i = 0; i < Shape::QueryStages; ++i) {
            ptx::mbarrier_init(shared.query_full + i, 1);
            ptx::mbarrier_init(shared.query_empty + i, consumer_warps);
        }
        for (int i = 0; i < Shape::CentroidStages; ++i) {
            ptx::mbarrier_init(shared.centroid_full + i, 1);
            ptx::mbarrier_init(shared.centroid_empty + i, consumer_warps);
        }
        ptx::fence_mbarrier_init();
    }
    __syncthreads();
    if (threadIdx.x >= Shape::Groups * 128) {
        if constexpr (Shape::Groups > 1) ptx::set_registers_down<Shape::producer_registers>();
        if (threadIdx.x == Shape::Groups * 128) route_produce<Shape>(p, &queries, &high, &low, shared);
    } else {
        if constexpr (Shape::Groups > 1) ptx::set_registers_up<Shape::consumer_registers>();
        route_consume<T, Shape>(p, shared);
    }
}

}  // namespace mobalab::kernels::cuda
