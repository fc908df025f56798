#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/backward/block_backward.h"
#include "kernels/cuda/ptx/mbarrier.cuh"

// Shapes of block_backward's thread blocks and what they hold in shared memory.
namespace mobalab::kernels::cuda {
namespace {

using namespace ptx;

constexpr int consumer_groups = 2;
constexpr int all_consumer_threads = 128 * consumer_groups;
constexpr int all_producer_warps = 4;
constexpr int threads_per_block = all_consumer_threads + 32 * all_producer_warps;
constexpr int unit_slots = 8;
constexpr int tile_rows = list_tile_rows;
constexpr int panel_columns = 64;                               // 128 bytes: the widest row of the swizzle
constexpr int row_panel_bytes = tile_rows * panel_columns * 2;  // of a tile of queries
constexpr int consumer_barrier = 1;                             // of the first team
constexpr std::uint32_t all_blocks = 0xff000000u;               // mask of an entry

enum class Mode {
    whole,  ///< blocks of 128 keys or more, or of 64
    parts,  ///< of 16 or 32 keys
    more,   ///< runs after the first one of larger ones, up to head_dim 128: adds to partials
    last,   ///< of these the last one, where it is shorter, or that may end with the sequence
    any,    ///< smaller ones whatever their size, or blocks that may end with the sequence; above head_dim 128 also the
            ///< shorter last run of larger ones
};
template <Mode M>
constexpr bool adds_to_partials = M == Mode::more || M == Mode::last;
/// Runs may be shorter than their launch's: keys behind the last one are hidden.
template <Mode M>
constexpr bool ends_with_sequence = M == Mode::last || M == Mode::any;
/// Blocks of a list stand apart.
template <Mode M>
constexpr bool has_parts = M == Mode::parts || M == Mode::any;

/// P: head_dim padded to 64, 128 or 256. K: keys of a run, 64 or 128.
///
/// A *team* works on one unit at a time, in shared memory of its own. Where a run is narrow enough for the registers of
/// one consumer warpgroup, a thread block has two teams. In the others two warpgroups split the keys or the columns.
template <int P, int K, Mode M>
struct Shape {
    static constexpr bool split_keys = K == 128;
    static constexpr bool split_columns = P > widest_split_head;
    static_assert(!(split_keys && split_columns) && (split_keys || K == 64));
    static constexpr int teams = split_keys || split_columns ? 1 : 2;
    static constexpr int groups = consumer_groups / teams;  // of a team, as is what follows
    static constexpr int consumer_threads = all_consumer_threads / teams;
    static constexpr int producer_warps = all_producer_warps / teams;
    static constexpr int rows_per_warp = tile_rows / producer_warps;  // of a tile, gathered by one warp
    static constexpr int tile_arrivals = 2 * 32 * producer_warps;     // of every producer thread and of its copies

    /// Of the consumer thread threadIdx.x. A constant where it can be: registers are short.
    static __device__ __forceinline__ int team() {
        return teams == 1 ? 0 : static_cast<int>(threadIdx.x) / consumer_threads;
    }

    static constexpr int width = P, keys = K;
    static constexpr int panels = P / panel_columns;
    static constexpr int key_panel_bytes = keys * panel_columns * 2;
    static constexpr int producer_registers = P <= 64 ? 56 : 40;
    static constexpr int consumer_registers = P <= 64 ? 224 : 232;
    static constexpr int stages = teams == 2 ? (P <= 64 ? 4 : 2) : P <= 128 ? 3 : 2;
    static constexpr int key_gradient_columns = split_columns ? P / 2 : P;  // of one warpgroup
    static constexpr int dq_part = split_columns ? 32 : P;                  // columns at a time: registers
    static constexpr int score_panels = keys / panel_columns;               // of dS, [query][key]
    static constexpr int score_buffers = teams == 2 ? 1 : split_keys ? stages : 2;
    /// Descriptions of tiles: read for dQ, which comes after their stages, and with split keys the next ones, are free.
    static constexpr int infos = split_columns ? stages : 2 * stages;
};

/// What consumers need to know of a tile.
struct TileInfo {
    char* dq = nullptr;       ///< partial of its first row, and
    std::uint32_t pitch = 0;  ///< pieces of 16 bytes to the next one
    std::int32_t rows = 0;
    std::int32_t last_key = 0;  ///< own tile: last key of the run the first row sees
    bool own = false;
    bool last = false;      ///< of the unit
    std::int32_t keys = 0;  ///< of the run, inside the list and the sequence
};

/// Those of the last `Size` tiles. By the tile's number alone: a stage's would be another one's.
template <int Size>
class TileInfos {
public:
    __device__ __forceinline__ TileInfo& of(std::uint32_t tile) { return slots_[tile % Size]; }

private:
    TileInfo slots_[Size];
};

template <Mode M>
struct alignas(16) RowData {
    /// Of a list, at most; Mode::any: and what is behind the last one.
    static constexpr int blocks = M == Mode::any     ? most_blocks_per_list + 1
                                  : M == Mode::parts ? most_blocks_per_list
                                                     : 1;
    float lse[blocks][tile_rows];  ///< times log2(e); infinite where the query did not select the block
    float dot[tile_rows];          ///< d_out . out
};

/// Of a team.
template <int P, int K, Mode M>
struct Shared {
    using S = Shape<P, K, M>;
    alignas(1024) std::byte k[S::panels * S::key_panel_bytes];
    alignas(1024) std::byte v[S::panels * S::key_panel_bytes];
    alignas(1024) std::byte q[S::stages][S::panels * row_panel_bytes];
    alignas(1024) std::byte d_out[S::stages][S::panels * row_panel_bytes];
    alignas(1024) std::byte d_scores[S::score_buffers][S::score_panels * row_panel_bytes];
    RowData<M> rows[S::stages];
    TileInfos<S::infos> tiles;
    BackwardUnit units[unit_slots];
    std::uint64_t announced[unit_slots];
    std::uint64_t full[S::stages];
    std::uint64_t empty[S::stages];
    std::uint64_t ready[S::score_buffers];  ///< of dS, as is `drained`
    std::uint64_t drained[S::score_buffers];
    std::uint64_t kv_loaded;
    std::uint32_t unit_numbers[S::consumer_threads];
    bool fills_last_slot;
};

/// The keys of a unit in this launch.
struct KeyRun {
    std::int32_t key_head;
    Place key;          ///< the first one
    std::int32_t keys;  ///< inside the list and the sequence; not positive: none
};

template <int K>
__device__ __forceinline__ KeyRun key_run(const BlockBackwardArgs& args, const ListItem& item) {
    const Sequence sequence = args.sequences.at(item.sequence);
    const int first = item.list * args.keys_per_list + args.run * K;
    return {item.head / args.query_heads_per_key_head, sequence.k.from(first), min(args.run_keys, sequence.sk - first)};
}

}  // namespace
}  // namespace mobalab::kernels::cuda
