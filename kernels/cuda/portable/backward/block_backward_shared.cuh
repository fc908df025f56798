#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/backward/key_gradient.cuh"
#include "kernels/cuda/portable/backward/backward_tiles.cuh"
#include "kernels/cuda/portable/tile_rows.cuh"
#include "kernels/cuda/ptx/copy.cuh"

// Shapes of block_backward's thread blocks, what they hold in shared memory, and how tiles of queries come there.
namespace mobalab::kernels::cuda::portable {
namespace {

constexpr int warps_per_block = 8, threads_per_block = 32 * warps_per_block;
constexpr int stage_bytes = 8192;  // of q, and of d_out, of a tile
constexpr int most_blocks_a_multiprocessor = 2;

/// P: head_dim padded to 64, 128 or 256. Eight warps have 16 keys each, and all columns of their dK and dV, or half of
/// them where there are only 64 keys.
template <int P>
struct Shape {
    static constexpr int keys = keys_per_backward_run(P);
    static constexpr int key_bytes = keys * P * 2;
    static constexpr int key_groups = keys / 16;
    static constexpr int columns = P * key_groups / warps_per_block;  // of a warp's dK and dV
    static constexpr int tile_rows = stage_bytes / (2 * P);           // 64, 32 or 16
    static constexpr int step_rows = P == 128 ? 32 : 16;              // queries whose scores are in registers
    static constexpr int steps = tile_rows / step_rows;
    static constexpr int dq_columns = 32;  // of a warp: 16 queries of the tile
    static constexpr int query_groups = tile_rows / 16;
    static_assert(query_groups * (P / dq_columns) == warps_per_block);
    static constexpr int d_scores_bytes = keys * tile_rows * 2;
    /// dS has a place of its own; there is none left at 128.
    static constexpr bool d_scores_apart = P != 128;
    static_assert(d_scores_apart || steps == 1);
    static constexpr int blocks_a_multiprocessor = P == 64 ? most_blocks_a_multiprocessor : 1;
};

/// A tile of queries.
template <int P>
struct Stage {
    alignas(128) std::byte d_out[stage_bytes];
    alignas(128) std::byte q[stage_bytes];
    float2 lse_dot[Shape<P>::tile_rows];        ///< log2(e) lse, infinite where there is no row; d_out . out
    std::uint32_t blocks[Shape<P>::tile_rows];  ///< that the row selected, of the list
};

constexpr int stages = 2, tile_slots = 4;

template <int P>
struct Shared {
    alignas(128) std::byte k[Shape<P>::key_bytes];
    alignas(128) std::byte v[Shape<P>::key_bytes];
    Stage<P> stages_of_tiles[stages];
    alignas(128) std::byte own_d_scores[Shape<P>::d_scores_apart ? Shape<P>::d_scores_bytes : 16];
    QueryTile tiles[tile_slots];
    TileWalk<Shape<P>::tile_rows, Shape<P>::keys> walk;
    BackwardUnit units[2];
    std::int32_t run_keys;  ///< of the run of the unit
    bool fills_last_slot;

    /// dS of the tile of a stage, [key][query]: behind the stages, or over d_out when that is no longer read.
    __device__ __forceinline__ std::byte* d_scores(int stage) {
        return Shape<P>::d_scores_apart ? own_d_scores : stages_of_tiles[stage].d_out;
    }
    static_assert(Shape<P>::d_scores_apart || Shape<P>::d_scores_bytes <= stage_bytes);
};

/// The entries of the rows of a tile that a thread asks for: thread / pieces, and half a tile further.
struct GatherEntries {
    std::uint32_t of[2];
};
template <int P>
__device__ __forceinline__ GatherEntries gather_entries(const QueryTile& tile, int thread) {
    constexpr int pieces = P / 8;
    if (tile.rows == 0) return {};
    return {{tile.entry(thread / pieces), tile.entry(thread / pieces + threads_per_block / pieces)}};
}

/// Asks for the rows of a tile; cp.async. Zeros, and an infinite log-sum-exp, take the place of rows that do not exist.
template <int P>
__device__ __forceinline__ void gather(const BlockBackwardArgs& args, const QueryTile& tile,
                                       const GatherEntries& entries, Stage<P>& stage, int thread) {
    constexpr int pieces = P / 8, rows = threads_per_block / pieces;
    static_assert(2 * rows == Shape<P>::tile_rows);
    const int piece = thread % pieces, q_pieces = args.head_dim / 8, d_out_pieces = args.value_dim / 8;
    const std::int64_t q_piece = min(piece, q_pieces - 1) * 16, d_out_piece = min(piece, d_out_pieces - 1) * 16;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const int row = thread / pieces + i * rows, place = SwizzledRows<P>::offset(row, piece);
        const std::int64_t from = entry_query(entries.of[i]);
        const bool exists = row < tile.rows;
        ptx::cp_async_16(stage.q + place, tile.q_rows + from * args.q.stride.token + q_piece,
                         exists && piece < q_pieces);
        ptx::cp_async_16(stage.d_out + place, tile.d_out_rows + from * args.d_out.stride.token + d_out_piece,
                         exists && piece < d_out_pieces);
        if (piece > 0) continue;
        stage.blocks[row] = entry_mask(entries.of[i]);
        if (exists) {
            ptx::cp_async_4(&stage.lse_dot[row].x, &tile.lse_dot[from].x);
            ptx::cp_async_4(&stage.lse_dot[row].y, &tile.lse_dot[from].y);
        } else {
            stage.lse_dot[row] = make_float2(INFINITY, 0.0f);
        }
    }
}

}  // namespace
}  // namespace mobalab::kernels::cuda::portable
