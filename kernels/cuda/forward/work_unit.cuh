#pragma once

#include <cstdint>

#include "kernels/cuda/forward/block_forward.h"

// Units of work of the key-major attention kernels: (list item, run of keys of its list), and the tiles of 64 query
// rows they consist of.
namespace mobalab::kernels::cuda {

/// Everything a thread block needs to know of one unit. Query rows are counted in the sequence.
struct alignas(16) WorkUnit {
    const char* q_rows = nullptr;  ///< query row 0 of the sequence under the unit's head
    char* own_out = nullptr;       ///< partial of own query row 0, and
    std::int64_t own_pitch = 0;    ///< bytes to the next one
    float* own_lse = nullptr;      ///< of own query row 0
    Place key;                     ///< first key of the run
    std::int32_t keys = 0;  ///< of the run, inside its list and the sequence. 0 where the last block of a problem
                            ///< that is not causal ends before the run: rows of its list have empty partials
    std::int32_t key_head = 0;
    std::int32_t tiles = 0;  ///< own tiles, then those of the list; negative: no more work
    std::int32_t own_tiles = 0;
    std::int32_t own_begin = 0, own_end = 0;    ///< query rows whose own block holds this run, causal
    std::int32_t list_begin = 0, list_end = 0;  ///< list rows of the chunk
    std::int32_t diagonal = 0;                  ///< query row r sees the keys [.., r - diagonal] of the run
    std::int32_t list_partial = 0;              ///< partial row of list row 0
};

__device__ __forceinline__ int unit_count(const BlockForwardArgs& args) {
    const std::int32_t* const begin = args.lists.window_items + args.windows.first;
    return (__ldg(begin + args.windows.count) - __ldg(begin)) * args.partials.runs;
}

/// Scratch row of run >= first_own of the own block of token 0 of a sequence under a head, for the window that query
/// row `row` of the sequence is in.
__device__ __forceinline__ std::int64_t own_partial_row(const BlockForwardArgs& args, const Sequence& sequence,
                                                        int head, int row, int run) {
    const PartialLayout& partials = args.partials;
    const ListChunk& chunk = args.lists.chunk;
    const int window = (head - chunk.head_begin) / partials.heads * args.windows.token_windows +
                       (sequence.q_begin + row - chunk.token_begin) / partials.tokens;
    const WindowOrigin origin = window_origin(args, window);
    return partials.own_row(window - args.windows.first, head - origin.head, run, sequence.q_begin - origin.token);
}

/// `index` counts the units of the launch. Keys: of a run.
template <int Keys = keys_per_run>
__device__ __forceinline__ WorkUnit make_unit(const BlockForwardArgs& args, int index) {
    const PartialLayout& partials = args.partials;
    const ListItem item = args.lists.items[__ldg(args.lists.window_items + args.windows.first) + index / partials.runs];
    const int run = index % partials.runs;
    const Sequence sequence = args.sequences.at(item.sequence);
    const int first_key = item.list * args.keys_per_list + run * Keys;

    WorkUnit unit;
    unit.q_rows = args.q.row(item.head, sequence.q);
    unit.key = sequence.k.from(first_key);
    unit.keys = max(min(min(Keys, args.keys_per_list - run * Keys), sequence.sk - first_key), 0);
    unit.key_head = item.head / args.query_heads_per_key_head;
    unit.diagonal = first_key - sequence.shift();
    unit.own_begin = max(item.own_begin, unit.diagonal);
    unit.own_end = max(item.own_end, unit.own_begin);
    unit.own_tiles = tiles_of(unit.own_end - unit.own_begin);
    unit.list_begin = item.first_row;
    unit.list_end = item.first_row + item.rows;
    unit.tiles = unit.own_tiles + tiles_of(item.rows);
    if (run < partials.first_own) {
        unit.own_out = args.output.out.row(item.head, sequence.q);
        unit.own_pitch = args.output.out.stride.token;
        unit.own_lse = args.output.lse_of(item.head, sequence.q_begin);
    } else {
        const std::int64_t row = own_partial_row(args, sequence, item.head, item.own_begin, run);
        unit.own_out = static_cast<char*>(partials.out) + row * args.partial_bytes;
        unit.own_pitch = args.partial_bytes;
        unit.own_lse = partials.lse + row;
    }
    unit.list_partial =
        static_cast<std::int32_t>(run * partials.list_rows() - args.windows.first * partials.window_rows);
    return unit;
}

/// 16 rows of a tile, one warp's share.
struct TileRows {
    bool own = false;
    std::int32_t first = 0;  ///< own: query row; else: list row
    std::int32_t limit = 0;  ///< rows from here on do not exist
};

__device__ __forceinline__ TileRows tile_rows(const WorkUnit& unit, int tile, int warp) {
    TileRows rows;
    rows.own = tile < unit.own_tiles;
    if (rows.own) {
        rows.first = unit.own_begin + tile * rows_per_tile + warp * 16;
        rows.limit = unit.own_end;
    } else {
        rows.first = unit.list_begin + (tile - unit.own_tiles) * rows_per_tile + warp * 16;
        rows.limit = unit.list_end;
    }
    return rows;
}

/// List entry of row `first + lane`; rows past the limit repeat the last one, so that every lane has a real query.
/// `entries` begin at list row `entries_begin`.
__device__ __forceinline__ std::uint32_t tile_entry(const TileRows& rows, const std::uint32_t* entries,
                                                    int entries_begin, int lane) {
    const int row = min(rows.first + lane, rows.limit - 1);
    return rows.own ? static_cast<std::uint32_t>(row) : entries[row - entries_begin];
}

/// Bit c of the result: keys [16 c, 16 c + 16) of the run lie in a selected block. block_size is a power of two.
template <int Keys = keys_per_run>
__device__ __forceinline__ std::uint32_t selected_chunks(std::uint32_t mask, int block_size) {
    const int shift = __ffs(block_size) - 5;  // log2(block_size / 16)
    std::uint32_t chunks = 0;
#pragma unroll
    for (int c = 0; c < Keys / 16; ++c) {
        chunks |= (mask >> (c >> shift) & 1u) << c;
    }
    return chunks;
}

/// Which keys the rows lane / 4 and lane / 4 + 8 of a warp's 16 see.
struct ScoreMask {
    std::uint32_t row[2];  ///< own tile: last key of the run the row sees; listed tile: selected_chunks()

    /// -inf for the keys a row must not see. `scores`: accumulator fragment of Groups groups of 8 keys from first_key
    /// on.
    template <int Groups>
    __device__ __forceinline__ void apply_own(float (&scores)[4 * Groups], int first_key, int block_size,
                                              int lane) const {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const int high = static_cast<int>(row[h]);
            const int low = block_size < keys_per_run ? high & ~(block_size - 1) : 0;
#pragma unroll
            for (int j = 0; j < Groups; ++j) {
#pragma unroll
                for (int e = 0; e < 2; ++e) {
                    const int key = first_key + 8 * j + 2 * (lane % 4) + e;
                    if (key < low || key > high) scores[4 * j + 2 * h + e] = -INFINITY;
                }
            }
        }
    }
    template <int Groups>
    __device__ __forceinline__ void apply_selected(float (&scores)[4 * Groups], int first_key) const {
#pragma unroll
        for (int j = 0; j < Groups; ++j) {
            const int chunk = first_key / 16 + j / 2;
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                if ((row[h] >> chunk & 1u) == 0) {
                    scores[4 * j + 2 * h] = -INFINITY;
                    scores[4 * j + 2 * h + 1] = -INFINITY;
                }
            }
        }
    }
};

/// Of this lane's keys of a run, those before `key` (0 to 128): bit 2 j + e is key 8 j + 2 (lane % 4) + e, as an
/// accumulator fragment holds them.
__device__ __forceinline__ std::uint32_t keys_before(int key, int lane) {
    const int count = key / 8 * 2 + min(max(key % 8 - 2 * (lane % 4), 0), 2);
    return count >= 32 ? 0xffffffffu : (1u << count) - 1;
}

/// Which of this lane's keys the rows lane / 4 and lane / 4 + 8 of a warp's 16 see, whatever the block size is.
struct VisibleKeys {
    std::uint32_t row[2];  ///< bits of keys_before()

    /// -inf for the others. `scores`: accumulator fragment of Groups groups of 8 keys from first_key on.
    template <int Groups>
    __device__ __forceinline__ void apply(float (&scores)[4 * Groups], int first_key) const {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const std::uint32_t seen = row[h] >> (first_key / 4);
#pragma unroll
            for (int i = 0; i < 2 * Groups; ++i) {
                if ((seen >> i & 1u) == 0) scores[i / 2 * 4 + 2 * h + i % 2] = -INFINITY;
            }
        }
    }
};

/// `entry`: of lane (warp lane % 16). If causal, a list has whole blocks alone.
__device__ __forceinline__ VisibleKeys visible_keys(const BlockForwardArgs& args, const WorkUnit& unit, bool own,
                                                    std::uint32_t entry, int lane) {
    VisibleKeys visible;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const std::uint32_t of_row = __shfl_sync(0xffffffffu, entry, lane / 4 + 8 * h);
        if (own) {
            const int last = min(static_cast<int>(of_row) - unit.diagonal, keys_per_run - 1);
            const int first = args.block_size < keys_per_run ? last - last % args.block_size : 0;
            visible.row[h] = keys_before(last + 1, lane) & ~keys_before(first, lane);
        } else if (args.block_size >= keys_per_run) {
            visible.row[h] = keys_before(unit.keys, lane);
        } else {
            visible.row[h] = 0;
            int block = 0;
            for (int first = 0; first < args.keys_per_list; first += args.block_size, ++block) {
                if ((entry_mask(of_row) >> block & 1u) == 0) continue;
                visible.row[h] |= keys_before(first + args.block_size, lane) & ~keys_before(first, lane);
            }
            visible.row[h] &= keys_before(unit.keys, lane);
        }
    }
    return visible;
}

/// `entry` is tile_entry() of lane (warp lane % 16).
__device__ __forceinline__ ScoreMask own_mask(const WorkUnit& unit, std::uint32_t entry, int lane) {
    ScoreMask mask;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        mask.row[h] = __shfl_sync(0xffffffffu, entry, lane / 4 + 8 * h) - static_cast<std::uint32_t>(unit.diagonal);
    }
    return mask;
}
template <int Keys = keys_per_run>
__device__ __forceinline__ ScoreMask listed_mask(std::uint32_t entry, int block_size, int lane) {
    const std::uint32_t chunks = selected_chunks<Keys>(entry_mask(entry), block_size);
    ScoreMask mask;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        mask.row[h] = __shfl_sync(0xffffffffu, chunks, lane / 4 + 8 * h);
    }
    return mask;
}

}  // namespace mobalab::kernels::cuda
