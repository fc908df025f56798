#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/ptx/copy.cuh"
#include "kernels/cuda/ptx/matrix.cuh"
#include "kernels/cuda/ptx/mbarrier.cuh"
#include "kernels/cuda/ptx/wgmma.cuh"
#include "kernels/cuda/sequences.h"
#include "kernels/cuda/top_k_long.cuh"
#include "kernels/cuda/top_k_short.cuh"

// Scores and exact top-k in one pass. A persistent thread block has one producer warp, which keeps the copy engine
// busy, and `Groups` warpgroups of 64 query rows each. A work item is one head and Groups * 64 rows; the tiles of 128
// centroids stream past it, highest blocks first, and the next item's queries arrive while this one is scored.
namespace mobalab::kernels::cuda {

struct RouteParams {
    Sequences sequences;
    std::int32_t heads_q, heads_per_key_head, slots;
    std::int32_t block_shift;                   // log2 of the block size
    std::uint32_t slots_inverse;                // ceil(2^20 / slots): divides up to 2^10 by a multiplication
    std::int32_t blocks_max;                    // of the longest sequence
    const std::int32_t* block_base;             // null: sequence b starts at block b * blocks_max
    std::int32_t parts;                         // 1, or 2 with low halves
    std::int32_t row_tiles;                     // items per (sequence, head)
    std::int32_t step_b, step_head, step_tile;  // from one item of a thread block to its next
    std::int64_t tokens_q;
    std::int32_t* selection;
    float* scores;
};

inline constexpr int route_tile_blocks = 128;
inline constexpr int route_group_rows = 64;

/// Shapes of one instantiation: HeadDim is padded to a multiple of 64.
template <int HeadDim_, typename TopK_, int Groups_, int CentroidStages_>
struct RouteShape {
    using TopK = TopK_;
    static constexpr int HeadDim = HeadDim_, Groups = Groups_, CentroidStages = CentroidStages_;
    static constexpr int rows = Groups * route_group_rows;
    static constexpr int threads = (Groups + 1) * 128;
    // A thread starts with 65536 / threads registers; with more than one group the producers give theirs to the
    // consumers.
    static constexpr int producer_registers = 24;
    static constexpr int consumer_registers = Groups == 3 ? 160 : 240;
    static constexpr int panels = HeadDim / 64;
    static constexpr int query_panel_bytes = route_group_rows * 128;
    static constexpr int query_bytes = panels * query_panel_bytes;  // of a group
    static constexpr int centroid_panel_bytes = route_tile_blocks * 128;
    static constexpr int centroid_bytes = panels * centroid_panel_bytes;
    static constexpr int barriers = 2 * (Groups + CentroidStages);
    static constexpr int shared_bytes =
        1024 + Groups * query_bytes + CentroidStages * centroid_bytes + Groups * 4 * TopK::shared_bytes + barriers * 8;
    static_assert(shared_bytes <= 227 * 1024);
};

template <typename Shape>
struct RouteShared {
    unsigned char* queries;
    unsigned char* centroids;
    unsigned char* top_k;
    std::uint64_t *query_full, *query_empty;  // of each group
    std::uint64_t *centroid_full, *centroid_empty;

    __device__ __forceinline__ explicit RouteShared(unsigned char* raw) {
        queries = raw + (1024 - ptx::shared_address(raw) % 1024) % 1024;
        centroids = queries + Shape::Groups * Shape::query_bytes;
        top_k = centroids + Shape::CentroidStages * Shape::centroid_bytes;
        query_full = reinterpret_cast<std::uint64_t*>(top_k + Shape::Groups * 4 * Shape::TopK::shared_bytes);
        query_empty = query_full + Shape::Groups;
        centroid_full = query_empty + Shape::Groups;
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

    __device__ __forceinline__ RouteItem(const RouteParams& p, const RouteCursor& at, int rows, bool surveys)
        : sequence(p.sequences.at(at.b)), b(at.b), head(at.head) {
        row0 = (p.row_tiles - 1 - at.tile) * rows;  // long rows first
        const int last = min(row0 + rows, sequence.sq) - 1;
        tiles = last < row0 ? 0 : (candidates(p, last) + route_tile_blocks - 1) / route_tile_blocks;
        passes = surveys && tiles > 2 ? 2 : 1;  // one that keeps nothing of two tiles is not worth it
    }
    /// Blocks entirely before the block of a row's position.
    __device__ __forceinline__ int candidates(const RouteParams& p, int row) const {
        return (row + sequence.shift()) >> p.block_shift;
    }
};

template <typename Shape>
__device__ __forceinline__ void route_produce(const RouteParams& p, const CUtensorMap* queries, const CUtensorMap* high,
                                              const CUtensorMap* low, const RouteShared<Shape>& shared) {
    std::uint32_t item_parity = 0;
    RingIndex<Shape::CentroidStages> c;
    for (RouteCursor cursor(p); cursor.valid(p); cursor.advance(p)) {
        const RouteItem item(p, cursor, Shape::rows, Shape::TopK::surveys);
        if (item.tiles == 0) continue;
#pragma unroll
        for (int group = 0; group < Shape::Groups; ++group) {
            ptx::mbarrier_wait(shared.query_empty + group, item_parity ^ 1);
            ptx::mbarrier_arrive_expect(shared.query_full + group, Shape::query_bytes);
#pragma unroll
            for (int panel = 0; panel < Shape::panels; ++panel) {
                ptx::tensor_load_3d(
                    shared.queries + group * Shape::query_bytes + panel * Shape::query_panel_bytes, queries, panel * 64,
                    item.head, item.sequence.q_begin + item.row0 + group * route_group_rows, shared.query_full + group);
            }
        }
        item_parity ^= 1;
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

/// Columns that are no candidate of their row become -inf; those below `least` are candidates of every row.
__device__ __forceinline__ void route_mask(float (&d)[64], int first_column, int candidates0, int candidates1,
                                           int least) {
#pragma unroll
    for (int i = 0; i < 64; i += 4) {
        if (2 * (i + 4) <= least) continue;
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
        const Key key = top == nullptr ? empty_key : top->final_key(row, i - row * p.slots);
        p.selection[at + i] = key_block(key);
        if (p.scores != nullptr) p.scores[at + i] = key_score(key);
    }
}

template <typename T, typename Shape>
__device__ __forceinline__ void route_consume(const RouteParams& p, const RouteShared<Shape>& shared) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int group = warp / 4;
    const unsigned char* queries = shared.queries + group * Shape::query_bytes;
    std::uint32_t item_parity = 0;
    RingIndex<Shape::CentroidStages> c;
    typename Shape::TopK top(shared.top_k + warp * Shape::TopK::shared_bytes, p.slots, lane);

    for (RouteCursor cursor(p); cursor.valid(p); cursor.advance(p)) {
        const RouteItem item(p, cursor, Shape::rows, Shape::TopK::surveys);
        const int row0 = item.row0 + warp * warp_rows;
        const int sq = item.sequence.sq;
        if (item.tiles == 0) {
            route_store<typename Shape::TopK>(p, item, nullptr, row0, lane);
            continue;
        }
        const auto row_candidates = [&](int offset) {
            const int row = row0 + lane / 4 + offset;
            return row < sq ? item.candidates(p, row) : 0;
        };
        // What the warp needs at all, and from where on (down) no column needs a mask.
        const int most = row0 < sq ? item.candidates(p, min(row0 + warp_rows, sq) - 1) : 0;
        const int least = row0 + warp_rows <= sq ? item.candidates(p, row0) : 0;
        const int group_row0 = item.row0 + group * route_group_rows;
        const int group_most = group_row0 < sq ? item.candidates(p, min(group_row0 + route_group_rows, sq) - 1) : 0;
        ptx::mbarrier_wait(shared.query_full + group, item_parity);
        item_parity ^= 1;
        // One pass over the tiles, the highest blocks first; `use` sees the scores that are not masked as a whole.
        const auto pass = [&](bool last_pass, const auto& use) {
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
                // The next item's queries arrive while this one's last tile is looked through.
                if (last_pass && tile == 0 && lane == 0) ptx::mbarrier_arrive(shared.query_empty + group);
                if (first >= most) continue;
                if (first + route_tile_blocks > least) {
                    route_mask(d, first + 2 * (lane % 4), row_candidates(0), row_candidates(8), least - first);
                }
                use(d, first);
            }
        };
        if constexpr (Shape::TopK::surveys) {
            if (item.passes > 1) {
                top.begin_survey();
                pass(false, [&](const float(&d)[64], int) { top.survey(d); });
            }
            top.begin(row_candidates(0) > 0, row_candidates(8) > 0, item.passes > 1);
        } else {
            top.begin(row_candidates(0) > 0, row_candidates(8) > 0);
        }
        pass(true, [&](const float(&d)[64], int first) { top.scan(d, first, item.tiles - first / route_tile_blocks); });
        top.end();
        int stored_row0 = row0;
        asm volatile("" : "+r"(stored_row0));  // addresses computed ahead of the loops would cost registers in them
        route_store(p, item, &top, stored_row0, lane);
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
        for (int i = 0; i < Shape::Groups; ++i) {
            ptx::mbarrier_init(shared.query_full + i, 1);
            ptx::mbarrier_init(shared.query_empty + i, 4);
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
