#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/tile/candidates.h"
#include "kernels/cuda/tile/sequences.h"
#include "kernels/kernels.h"

// Key-major lists: for every (query head, run of keys) the queries that selected it, so that attention can load keys
// and values once and stream queries past them. Built on the device from a selection as route() writes it: no sort, no
// host synchronisation, same bits every time (entries of a list ascend by query).
//
// Vocabulary
//
// list: the queries of one head of one sequence that selected at least one block of one run of `keys_per_list` keys:
// those of one block, or of several smaller ones, as many as fit ListOptions::shared_list keys and bits of a mask,
// rounded down to a power of two. Bit s of an entry's mask says that block list * blocks_per_list + s was selected.
// List j of a sequence covers its positions [j * keys_per_list, (j + 1) * keys_per_list). The own block of a query is
// in no list; if not causal it has none.
//
// row: one entry of a list, which is one partial result of attention. Lists begin at multiples of list_tile_rows rows
// and are padded to such a multiple with `list_padding`, so whole tiles can be stored without a test.
//
// window: a part of a chunk whose lists stand alone: `heads_per_window` query heads and `tokens_per_window` query
// tokens. Without ListOptions::window a chunk is one window and its lists hold every query of it.
//
// range: lists [i * lists_per_range, (i + 1) * lists_per_range) of a sequence. A thread block that counts or emits
// entries has the tables of one range in shared memory; sequences of very many lists have several, and their selection
// is read once for each.
//
// piece: a window of tokens w meeting a sequence b that has queries in it, numbered w + b. Along the tokens one of the
// two always moves on, so no two pieces share a number. For windows of 100 tokens and sequences of 150 and 100 queries:
//
//     token      0         100         150         200         250
//     window     |--- 0 ---|----------- 1 ---------|---- 2 ----|
//     sequence   |---------- 0 --------|---------- 1 ----------|
//     piece      |--- 0 ---|---- 1 ----|---- 2 ----|---- 3 ----|
//
// chunk: the part of the problem that is in work at a time: heads [head_begin, head_begin + head_count) and query
// tokens [token_begin, token_begin + token_count) of the concatenated batch. Rows are numbered inside the chunk, so
// that scratch memory of ListPlan::rows rows serves every chunk in turn. Chunks depend on the integers of the problem
// only.
//
// item: a piece of a list small enough to balance the load: some of the tiles of the queries whose own block lies in
// the list's keys, which come first, and of the list itself.
namespace mobalab::kernels::cuda {

inline constexpr int list_tile_rows = 64;
inline constexpr std::uint32_t list_padding = 0xffffffffu;
inline constexpr std::int64_t most_blocks_per_list = 8;                        ///< bits of an entry's mask
inline constexpr std::int64_t max_list_queries = (std::int64_t{1} << 24) - 1;  ///< queries of a sequence: 24 bits

inline constexpr int most_sorted_slots = 64;  ///< of a row that is sorted in registers

inline constexpr std::int64_t widest_shared_list = 128;  ///< keys

/// Blocks that share a list of at most `most` keys, and the keys of these.
constexpr std::int64_t blocks_of_list(std::int64_t block_size, std::int64_t most = widest_shared_list) {
    if (block_size >= most) return 1;
    return std::min(most_blocks_per_list,
                    static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(most / block_size))));
}
constexpr std::int64_t keys_of_list(std::int64_t block_size, std::int64_t most = widest_shared_list) {
    return blocks_of_list(block_size, most) * block_size;
}

MOBALAB_HOST_DEVICE std::int32_t tiles_of(std::int32_t rows) {
    return (rows + list_tile_rows - 1) / list_tile_rows;
}

/// Query row (in its sequence) of an entry, and its mask of selected blocks. list_padding has every bit set.
MOBALAB_HOST_DEVICE std::uint32_t entry_query(std::uint32_t entry) {
    return entry & 0xffffffu;
}
MOBALAB_HOST_DEVICE std::uint32_t entry_mask(std::uint32_t entry) {
    return entry >> 24;
}

/// One unit of work of a key-major kernel; 32 bytes. Items are ordered (window, sequence, key head, list, query head,
/// rows), so all users of one run of keys in a window follow one another.
struct alignas(16) ListItem {
    std::int32_t sequence;
    std::int32_t head;        ///< query head, absolute
    std::int32_t list;        ///< in its sequence: keys [list * keys_per_list, ...) of it
    std::int32_t first_row;   ///< in the chunk, multiple of list_tile_rows
    std::int32_t rows;        ///< entries to process, padding not counted; 0 when the item has only own queries
    std::int32_t own_begin;   ///< query rows [own_begin, own_end) of the sequence have their own block in these keys,
    std::int32_t own_end;     ///< the part of them that this item has; whole tiles, but for the last ones
    std::int32_t list_tiles;  ///< of all items of the list
};

struct ListOptions {
    std::int64_t max_rows = 0;  ///< rows of scratch memory one chunk may use; exceeded only if a single tile needs more
    std::int32_t tiles_per_item = 16;  ///< tiles (own and listed) of list_tile_rows rows an item has at most
    std::int64_t shared_list = widest_shared_list;  ///< keys that blocks of a list have together, at most
    std::int64_t window = 0;  ///< query tokens per window, of the query heads of one key head; 0: one window a chunk
};

struct ListChunk {
    std::int32_t head_begin = 0, head_count = 0;    ///< query heads
    std::int32_t token_begin = 0, token_count = 0;  ///< query tokens of the concatenated batch
};

/// All sizes, known on the host before anything runs. Passed to kernels by value.
struct ListPlan {
    Sequences sequences;
    std::int32_t heads_q = 1, heads_k = 1;
    std::int32_t tokens_q = 0;
    std::int32_t slots = 0;  ///< Problem::routed()
    bool causal = true;      ///< or no query has a block of its own
    Candidates blocks;       ///< of a query
    std::int32_t block_size = 128;
    std::int32_t keys_per_list = 128;
    std::int32_t blocks_per_list = 1;
    std::int32_t lists_max = 0;  ///< lists of the longest sequence
    std::int32_t lists_per_range = 0;
    std::int32_t lists_per_head = 0;  ///< list numbers of a head lie below this (gaps between sequences possible)
    std::int32_t heads_per_chunk = 1, tokens_per_chunk = 0;
    std::int32_t head_groups = 1, token_groups = 1;  ///< chunks: head groups outermost
    std::int32_t heads_per_window = 1, tokens_per_window = 0;
    std::int32_t head_windows = 1, token_windows = 1;  ///< windows of a chunk: head windows outermost
    std::int32_t pieces = 1;           ///< (window of tokens, sequence) pairs that meet, at most; see lists.cu
    std::int32_t segment_rows = 1024;  ///< queries one thread block turns into list entries
    std::int32_t emit_warps = 8;       ///< of such a thread block
    std::int32_t segments_max = 1;     ///< segments of one piece
    std::int32_t segments_per_head = 1;
    std::int32_t tiles_per_item = 16;
    std::int32_t items_max = 0;        ///< bound on the items of a chunk
    std::int32_t counters = 0;         ///< ListView::counters
    std::int64_t rows_per_head = 0;    ///< rows of one head of a window
    std::int64_t rows_per_window = 0;  ///< row numbers of window i lie in [i, i + 1) * rows_per_window
    std::int64_t rows = 0;             ///< of all windows of a chunk: scratch rows to reserve

    std::int32_t chunks() const { return head_groups * token_groups; }
    std::int32_t ranges() const { return lists_max == 0 ? 1 : (lists_max + lists_per_range - 1) / lists_per_range; }
    MOBALAB_HOST_DEVICE std::int32_t windows() const { return head_windows * token_windows; }  ///< of a chunk
    ListChunk chunk(std::int32_t index) const;
};

/// What attention reads; device memory inside the workspace given to build_lists().
struct ListView {
    ListChunk chunk;
    const std::uint32_t* entries = nullptr;  ///< [rows]
    /// [head_count][token_count][slots]: the rows of a query (of the chunk), valid ones first, then -1. Fewer than
    /// selected blocks when blocks share a list.
    const std::int32_t* positions = nullptr;
    const ListItem* items = nullptr;             ///< [*item_count]
    const std::int32_t* item_count = nullptr;    ///< one integer
    const std::int32_t* window_items = nullptr;  ///< [windows + 1]: window w has the items [w] up to [w + 1]
    /// [ListPlan::counters], 0 when the lists are built: for whoever draws items. A clearing of their own would be one
    /// more operation on the stream, and no kernel behind it could be launched early.
    std::int32_t* counters = nullptr;
};

/// Cuts the problem into chunks that stay within options.max_rows: whole groups of query heads that share a key head
/// where possible, then single heads, then groups of tokens.
ListPlan make_list_plan(const Problem& problem, const ListOptions& options);

/// Bytes of workspace build_lists() needs, 256-byte aligned; the same for every chunk.
std::size_t list_workspace_size(const ListPlan& plan);

/// Enqueues the lists of one chunk. selection: int32 [heads_q, tokens_q, slots] in device memory, each row a
/// set: any order, no candidates and repetitions are left out. The view points into `workspace` and is valid (in stream
/// order) until the workspace is reused.
Status build_lists(const ListPlan& plan, std::int32_t chunk, const std::int32_t* selection, void* workspace,
                   cudaStream_t stream, ListView& view);

}  // namespace mobalab::kernels::cuda
