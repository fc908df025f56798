#pragma once

#include <cstdint>

#include "kernels/cuda/lists/list_part.cuh"
#include "kernels/cuda/ptx/warp.cuh"

namespace mobalab::kernels::cuda {

/// Threads of a thread block that looks at (query, selected block) pairs, and of one whose shared memory leaves no room
/// for a second on its multiprocessor.
inline constexpr int pair_threads = 512, lone_pair_threads = 1024;

/// The selected blocks of one query, sorted over `Width` lanes (two blocks a lane when Width is 64).
template <int Width>
struct SortedQuery {
    static constexpr int lanes = Width < 32 ? Width : 32;  // of one query
    static constexpr int per_lane = Width / lanes;
    static constexpr int per_warp = 32 / lanes;  // queries a warp holds at once
    static constexpr std::uint32_t none = 0xffffffffu;

    std::uint32_t block[per_lane];  // element r * lanes + lane; `none` last

    /// What a lane needs of a query. selected: its slots, or null for no query.
    struct Raw {
        std::uint32_t block[per_lane];

        __device__ __forceinline__ void load(const std::int32_t* selected, int slots) {
            const int lane = static_cast<int>(threadIdx.x) % lanes;
#pragma unroll
            for (int r = 0; r < per_lane; ++r) {
                const int slot = r * lanes + lane;
                const bool exists = selected != nullptr && slot < slots;
                block[r] = exists ? static_cast<std::uint32_t>(__ldg(selected + slot)) : none;
            }
        }
    };

    /// Every lane of the warp calls it. What is none of the query's candidates is left out.
    __device__ __forceinline__ SortedQuery(const Raw& raw, int candidates) {
#pragma unroll
        for (int r = 0; r < per_lane; ++r) {
            block[r] = raw.block[r] < static_cast<std::uint32_t>(candidates) ? raw.block[r] : none;
        }
        sort<2>(static_cast<int>(threadIdx.x) % lanes);
    }

    /// Whether an element is the first of its list (a block that was named twice leads once), and (for it) which blocks
    /// of the list are selected.
    struct Leader {
        bool leads;
        int list;
        std::uint32_t mask;
    };
    __device__ __forceinline__ void leaders(int shift, Leader (&leader)[per_lane]) const {
        const int lane = static_cast<int>(threadIdx.x) % lanes;
#pragma unroll
        for (int r = 0; r < per_lane; ++r) {
            const std::uint32_t before = __shfl_up_sync(full_warp, block[r], 1, lanes);
            const std::uint32_t last =
                r > 0 ? __shfl_sync(full_warp, block[r > 0 ? r - 1 : 0], lanes - 1, lanes) : none;
            const std::uint32_t previous = lane > 0 ? before : last;
            const bool valid = block[r] != none;
            leader[r].leads = valid && ((lane == 0 && r == 0) || previous >> shift != block[r] >> shift);
            leader[r].list = static_cast<int>(block[r] >> shift);
            leader[r].mask = valid ? 1u << (block[r] & ((1u << shift) - 1)) : 0;
        }
        if (shift == 0) return;
            // Members of a list are neighbours: doubling steps collect their masks in the first of them.
#pragma unroll
        for (int step = 1; step < Width; step *= 2) {
#pragma unroll
            for (int r = 0; r < per_lane; ++r) {
                int list = 0;
                std::uint32_t mask = 0;
                if (step < lanes) {
                    list = __shfl_down_sync(full_warp, leader[r].list, step, lanes);
                    mask = __shfl_down_sync(full_warp, leader[r].mask, step, lanes);
                    if (lane + step >= lanes) mask = 0;
                    if (r + 1 < per_lane) {  // past the last lane: the next register of the first lanes
                        const int from = lane + step - lanes;
                        const int next_list = __shfl_sync(full_warp, leader[per_lane - 1].list, max(from, 0), lanes);
                        const std::uint32_t next_mask =
                            __shfl_sync(full_warp, leader[per_lane - 1].mask, max(from, 0), lanes);
                        if (from >= 0) {
                            list = next_list;
                            mask = next_mask;
                        }
                    }
                } else if (r + 1 < per_lane) {
                    list = leader[per_lane - 1].list;
                    mask = leader[per_lane - 1].mask;
                }
                if (list == leader[r].list) leader[r].mask |= mask;
            }
        }
    }

private:
    /// Bitonic, ascending.
    template <int Size>
    __device__ __forceinline__ void sort(int lane) {
        merge<Size, Size / 2>(lane);
        if constexpr (Size < Width) sort<Size * 2>(lane);
    }
    template <int Size, int Distance>
    __device__ __forceinline__ void merge(int lane) {
        if constexpr (Distance == lanes) {  // only when Width is 64, in its last merge
            const std::uint32_t low = min(block[0], block[per_lane - 1]);
            block[per_lane - 1] = max(block[0], block[per_lane - 1]);
            block[0] = low;
        } else {
#pragma unroll
            for (int r = 0; r < per_lane; ++r) {
                const std::uint32_t other = __shfl_xor_sync(full_warp, block[r], Distance, lanes);
                const bool ascending = ((r * lanes + lane) & Size) == 0;
                const bool keep_less = ascending == ((lane & Distance) == 0);
                block[r] = keep_less ? min(block[r], other) : max(block[r], other);
            }
        }
        if constexpr (Distance > 1) merge<Size, Distance / 2>(lane);
    }
};

/// How the threads of a block walk over the queries of a tile: every warp takes `passes` times per_warp of them.
template <int Width, int Threads = pair_threads>
struct PairShape {
    using Query = SortedQuery<Width>;
    static constexpr int threads = Threads;
    static constexpr int pass_queries = Threads / 32 * Query::per_warp;
    static constexpr int words = Width == 8 ? 4 : 2;  // of a list's bits
    static constexpr int tile_queries = words * 32;
    static constexpr int passes = tile_queries / pass_queries;
    static_assert(passes >= 1 && passes * pass_queries == tile_queries);

    /// The query of this lane in a pass, counted from the tile's first.
    static __device__ __forceinline__ int query(int pass) {
        const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
        return pass * pass_queries + warp * Query::per_warp + lane / Query::lanes;
    }
};

/// Where the selected blocks of a row of the part begin.
__device__ __forceinline__ const std::int32_t* selected_blocks(const ListParams& p, const ListPart& part, int row) {
    const std::int64_t head = p.chunk.head_begin + part.local_head;
    return p.selection + (head * p.plan.tokens_q + part.sequence.q_begin + row) * p.plan.slots;
}

/// Blocks that a row may select.
__device__ __forceinline__ int candidates_of(const ListParams& p, const ListPart& part, int row) {
    return p.plan.blocks.of_row(part.sequence, row);
}

/// The queries of one tile that this lane takes part in.
template <typename Shape>
struct TileQueries {
    typename Shape::Query::Raw raw[Shape::passes];

    __device__ __forceinline__ void load(const ListParams& p, const ListPart& part, int row0, int end) {
#pragma unroll
        for (int pass = 0; pass < Shape::passes; ++pass) {
            const int row = row0 + Shape::query(pass);
            raw[pass].load(row < end ? selected_blocks(p, part, row) : nullptr, p.plan.slots);
        }
    }
};

}  // namespace mobalab::kernels::cuda
