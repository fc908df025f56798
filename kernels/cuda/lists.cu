#include "kernels/cuda/lists.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <string>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/status.h"
#include "kernels/cuda/workspace.h"

// Four kernels: count (entries per segment of queries and list), scan (where lists and segments begin), number (where
// items begin), emit (entries, positions, items). A few lanes hold the selected blocks of one query and sort them, so
// blocks that share a list are neighbours and one of them leads. Within a segment, tiles of queries set bits in a
// bitmap [list][query]; the rank of a query in its list is a population count, so the order is that of the queries
// whatever the order in which threads came.
namespace mobalab::kernels::cuda {
namespace {

constexpr int pair_threads = 512;
constexpr int scan_threads = 1024;
constexpr int pair_warps = pair_threads / 32;
constexpr unsigned full_warp = 0xffffffffu;

struct Params {
    ListPlan plan;
    ListChunk chunk;
    const std::int32_t* selection;
    std::int32_t list_shift;   // log2 of blocks per list
    std::int32_t block_shift;  // log2 of the block size
    std::int32_t* counts;      // [head][segment][lists_max]: count() writes numbers, scan() turns them into offsets
    std::int32_t* list_begin;  // [head][token window][lists_per_head]
    std::int32_t* list_count;  // likewise
    std::int32_t* item_begin;  // [head window][piece][head of the window]: scan() writes numbers, number() where they
                               // begin
    std::uint32_t* entries;
    std::int32_t* positions;
    ListItem* items;
    std::int32_t* window_items;
};

/// Where the queries of sequence b begin, in tokens of the chunk; 0 when they begin before it.
__device__ __forceinline__ int tokens_before(const Params& p, int b) {
    const Sequences& sequences = p.plan.sequences;
    const int begin = sequences.cu_seqlens_q == nullptr ? b * sequences.seqlen_q : __ldg(sequences.cu_seqlens_q + b);
    return max(begin - p.chunk.token_begin, 0);
}

/// Piece x is window w of tokens meeting sequence b, where w + b = x: along the tokens one of the two always moves on,
/// so no two pieces that hold queries share a number.
__device__ int sequence_of_piece(const Params& p, int piece) {
    int low = 0, high = p.plan.sequences.batch;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        const bool begun = piece_base(tokens_before(p, middle), middle, p.plan.tokens_per_window) <= piece;
        (begun ? low : high) = middle;
    }
    return low;
}

/// One head of a piece.
struct Part {
    Sequence sequence;
    int b, local_head;  // head - head_begin
    int window;         // of tokens
    int row_begin, row_end;
    int lists;                  // that causal queries of the part can be in
    std::int64_t list_base;     // in list_begin and list_count
    std::int64_t segment_base;  // in a head's segments
    std::int64_t first_row;     // where the rows of this part begin in the chunk
    std::int64_t number;        // in item_begin

    __device__ Part(const Params& p, int piece, int local_head_)
        : b(sequence_of_piece(p, piece)), local_head(local_head_), window(piece - b) {
        const ListPlan& plan = p.plan;
        sequence = plan.sequences.at(b);
        const int first_token = p.chunk.token_begin + window * plan.tokens_per_window;
        const int tokens = max(min(plan.tokens_per_window, p.chunk.token_begin + p.chunk.token_count - first_token), 0);
        const int before = sequence.q_begin - first_token;  // negative: the window begins inside the sequence
        row_begin = min(max(-before, 0), sequence.sq);
        row_end = min(max(tokens - before, 0), sequence.sq);
        lists = row_begin < row_end ? (row_end - 1 + sequence.shift()) / plan.keys_per_list + 1 : 0;

        const int head_window = local_head / plan.heads_per_window, head = local_head % plan.heads_per_window;
        const std::int64_t sequence_lists = piece_base(sequence.k_begin, b, plan.keys_per_list);
        list_base = (static_cast<std::int64_t>(local_head) * plan.token_windows + window) * plan.lists_per_head +
                    sequence_lists;
        segment_base =
            piece_base(max(first_token + before, first_token) - p.chunk.token_begin, piece, plan.segment_rows);
        first_row = (static_cast<std::int64_t>(head_window) * plan.token_windows + window) * plan.rows_per_window +
                    head * plan.rows_per_head +
                    static_cast<std::int64_t>(max(before, 0)) * plan.slots / list_tile_rows * list_tile_rows +
                    list_tile_rows * (sequence_lists + b - lists_before(plan, first_token));
        number = (static_cast<std::int64_t>(head_window) * plan.pieces + piece) * plan.heads_per_window + head;
    }
    /// Lists and sequences that end before a token; 0 where the lengths of sequences differ.
    static __device__ std::int64_t lists_before(const ListPlan& plan, int token) {
        if (plan.sequences.cu_seqlens_q != nullptr) return 0;
        const std::int64_t first = token / plan.sequences.seqlen_q;
        return piece_base(first * plan.sequences.seqlen_k, first, plan.keys_per_list) + first;
    }
    __device__ std::int32_t* segment_counts(const Params& p, int segment) const {
        return p.counts + (static_cast<std::int64_t>(local_head) * p.plan.segments_per_head + segment_base + segment) *
                              p.plan.lists_max;
    }
    __device__ std::int64_t list_index(int list) const { return list_base + list; }
    /// The same list under the head `count` further on in the chunk.
    __device__ std::int64_t list_index_of_head(const Params& p, int list, int count) const {
        return list_base + list + static_cast<std::int64_t>(count) * p.plan.token_windows * p.plan.lists_per_head;
    }
    /// Query rows of the part whose own block lies in a list's keys.
    __device__ int own_begin(const Params& p, int list) const {
        return min(max(list * p.plan.keys_per_list - sequence.shift(), row_begin), row_end);
    }
    __device__ int own_end(const Params& p, int list) const { return own_begin(p, list + 1); }
};

__device__ __forceinline__ int items_of(const Params& p, int own_rows, int list_rows) {
    return (tiles_of(own_rows) + tiles_of(list_rows) + p.plan.tiles_per_item - 1) / p.plan.tiles_per_item;
}

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
template <int Width>
struct PairShape {
    using Query = SortedQuery<Width>;
    static constexpr int pass_queries = pair_warps * Query::per_warp;
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
__device__ __forceinline__ const std::int32_t* selected_blocks(const Params& p, const Part& part, int row) {
    const std::int64_t head = p.chunk.head_begin + part.local_head;
    return p.selection + (head * p.plan.tokens_q + part.sequence.q_begin + row) * p.plan.slots;
}

/// Blocks before the own one of a row.
__device__ __forceinline__ int candidates_of(const Params& p, const Part& part, int row) {
    return (row + part.sequence.shift()) >> p.block_shift;
}

/// The queries of one tile that this lane takes part in.
template <int Width>
struct TileQueries {
    using Shape = PairShape<Width>;
    typename Shape::Query::Raw raw[Shape::passes];

    __device__ __forceinline__ void load(const Params& p, const Part& part, int row0, int end) {
#pragma unroll
        for (int pass = 0; pass < Shape::passes; ++pass) {
            const int row = row0 + Shape::query(pass);
            raw[pass].load(row < end ? selected_blocks(p, part, row) : nullptr, p.plan.slots);
        }
    }
};

template <int Width>
__global__ void __launch_bounds__(pair_threads, 1) count_kernel(const Params p) {
    using Shape = PairShape<Width>;
    using Query = typename Shape::Query;
    extern __shared__ std::int32_t histogram[];  // [lists]
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const int segment = static_cast<int>(blockIdx.x) % p.plan.segments_max;
    const Part part(p, static_cast<int>(blockIdx.x) / p.plan.segments_max, static_cast<int>(blockIdx.y));
    const int begin = part.row_begin + segment * p.plan.segment_rows;
    const int end = min(begin + p.plan.segment_rows, part.row_end);
    if (begin >= end) return;
    const int t = static_cast<int>(threadIdx.x);
    for (int j = t; j < part.lists; j += pair_threads) histogram[j] = 0;
    __syncthreads();
    TileQueries<Width> next;
    next.load(p, part, begin, end);
    for (int row0 = begin; row0 < end; row0 += Shape::tile_queries) {
        const TileQueries<Width> tile = next;
        next.load(p, part, row0 + Shape::tile_queries, end);
#pragma unroll
        for (int pass = 0; pass < Shape::passes; ++pass) {
            typename Query::Leader leader[Query::per_lane];
            const int candidates = candidates_of(p, part, row0 + Shape::query(pass));
            Query(tile.raw[pass], candidates).leaders(p.list_shift, leader);
#pragma unroll
            for (int r = 0; r < Query::per_lane; ++r) {
                if (leader[r].leads) atomicAdd(histogram + leader[r].list, 1);
            }
        }
    }
    __syncthreads();
    std::int32_t* counts = part.segment_counts(p, segment);
    for (int j = t; j < part.lists; j += pair_threads) counts[j] = histogram[j];
}

/// Exclusive sum over the thread block; `total` is the sum over all of it. Every thread calls it.
__device__ int block_exclusive_sum(int value, int& total) {
    __shared__ int warp_sums[32];
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int warps = static_cast<int>(blockDim.x) / 32;
    int sum = value;
    for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(0xffffffffu, sum, step);
        if (lane >= step) sum += other;
    }
    if (lane == 31) warp_sums[warp] = sum;
    __syncthreads();
    int before = 0;
    total = 0;
    for (int w = 0; w < warps; ++w) {
        if (w < warp) before += warp_sums[w];
        total += warp_sums[w];
    }
    __syncthreads();
    return before + sum - value;
}

/// One list: turns its counts per segment into offsets, returns their sum.
__device__ int scan_segments(const Params& p, const Part& part, int list) {
    const int segments =
        p.plan.slots == 0 ? 0 : (part.row_end - part.row_begin + p.plan.segment_rows - 1) / p.plan.segment_rows;
    constexpr int batch = 16;
    int sum = 0;
    for (int s0 = 0; s0 < segments; s0 += batch) {
        int counts[batch];
#pragma unroll
        for (int i = 0; i < batch; ++i) counts[i] = s0 + i < segments ? part.segment_counts(p, s0 + i)[list] : 0;
#pragma unroll
        for (int i = 0; i < batch; ++i) {
            if (s0 + i < segments) part.segment_counts(p, s0 + i)[list] = sum;
            sum += counts[i];
        }
    }
    return sum;
}

/// Every lane brings one list; the warp fills the ends of their last tiles one after another, in whole lines.
__device__ void write_padding(const Params& p, std::int32_t begin, int count, int padded) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    for (int l = 0; l < 32; ++l) {
        const std::int32_t from = __shfl_sync(full_warp, begin + count, l),
                           to = __shfl_sync(full_warp, begin + padded, l);
        for (std::int32_t row = from + lane; row < to; row += 32) p.entries[row] = list_padding;
    }
}

__global__ void __launch_bounds__(scan_threads) scan_kernel(const Params p) {
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const Part part(p, static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y));
    std::int64_t row = part.first_row;
    int items = 0;
    for (int j0 = 0; j0 < part.lists; j0 += static_cast<int>(blockDim.x)) {
        const int list = j0 + static_cast<int>(threadIdx.x);
        const bool exists = list < part.lists;
        const int count = exists ? scan_segments(p, part, list) : 0;
        const int padded = tiles_of(count) * list_tile_rows;
        int rows, item_sum;
        const std::int64_t begin = row + block_exclusive_sum(padded, rows);
        row += rows;
        const int own = exists ? part.own_end(p, list) - part.own_begin(p, list) : 0;
        block_exclusive_sum(items_of(p, own, count), item_sum);
        items += item_sum;
        write_padding(p, static_cast<std::int32_t>(begin), count, padded);
        if (!exists) continue;
        p.list_begin[part.list_index(list)] = static_cast<std::int32_t>(begin);
        p.list_count[part.list_index(list)] = count;
    }
    if (threadIdx.x == 0) p.item_begin[part.number] = items;
}

__global__ void __launch_bounds__(scan_threads) number_kernel(const Params p) {
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const ListPlan& plan = p.plan;
    const int parts = plan.head_windows * plan.pieces * plan.heads_per_window;
    int at = 0;
    for (int i0 = 0; i0 < parts; i0 += scan_threads) {
        const int i = i0 + static_cast<int>(threadIdx.x);
        const int head_window = i / plan.heads_per_window / plan.pieces;
        const int piece = i / plan.heads_per_window % plan.pieces, head = i % plan.heads_per_window;
        const bool exists = i < parts && head_window * plan.heads_per_window + head < p.chunk.head_count;
        int all;
        const int begin = at + block_exclusive_sum(exists ? p.item_begin[i] : 0, all);
        at += all;
        if (i >= parts) continue;
        p.item_begin[i] = begin;
        const int window = piece - sequence_of_piece(p, piece);
        const bool first = head == 0 && (piece == 0 || window != piece - 1 - sequence_of_piece(p, piece - 1));
        if (first && window < plan.token_windows) p.window_items[head_window * plan.token_windows + window] = begin;
    }
    if (threadIdx.x == 0) p.window_items[plan.windows()] = at;
}

template <int Words>
struct alignas(4 * Words) BitRow {
    std::uint32_t word[Words];
};

/// Rank of a query among those of its tile in its list, and their number.
template <int Words>
__device__ __forceinline__ int rank_in_list(const BitRow<Words>& bits, int query, int& total) {
    const BitRow<Words> row = bits;
    int rank = 0;
    total = 0;
#pragma unroll
    for (int w = 0; w < Words; ++w) {
        const int below = query - 32 * w;  // bits of this word that come before the query
        const std::uint32_t before = below >= 32 ? full_warp : below > 0 ? (1u << below) - 1 : 0;
        rank += __popc(row.word[w] & before);
        total += __popc(row.word[w]);
    }
    return rank;
}

/// Shared memory of emit_kernel. Entries are collected in the order of the segment's lists first, so that they leave in
/// runs: single words scattered over memory cost a sector each.
template <int Width>
struct EmitShared {
    using Bits = BitRow<PairShape<Width>::words>;
    Bits* bits;             // [lists]
    std::int32_t* next;     // [lists]: place of the next entry among `staged`
    std::int32_t* shift;    // [lists]: from that place to the row of the chunk
    std::uint32_t* staged;  // [queries of a segment * slots]
    std::uint16_t* list;    // [queries of a segment * slots]: of a staged entry

    static constexpr std::size_t list_bytes = sizeof(Bits) + 2 * sizeof(std::int32_t);
    static constexpr std::size_t pair_bytes = sizeof(std::uint32_t) + sizeof(std::uint16_t);

    __device__ EmitShared(const Params& p, unsigned char* raw) {
        bits = reinterpret_cast<Bits*>(raw);
        next = reinterpret_cast<std::int32_t*>(bits + p.plan.lists_max);
        shift = next + p.plan.lists_max;
        staged = reinterpret_cast<std::uint32_t*>(shift + p.plan.lists_max);
        list = reinterpret_cast<std::uint16_t*>(staged + p.plan.segment_rows * p.plan.slots);
    }
};

/// Where the entries of each list of a segment go; returns their number. The caller synchronises.
template <int Width>
__device__ int place_lists(const Params& p, const Part& part, int segment, const EmitShared<Width>& s) {
    const int segments = (part.row_end - part.row_begin + p.plan.segment_rows - 1) / p.plan.segment_rows;
    const std::int32_t* offsets = part.segment_counts(p, segment);
    const std::int32_t* ends =
        segment + 1 < segments ? part.segment_counts(p, segment + 1) : p.list_count + part.list_index(0);
    int placed = 0;
    for (int j0 = 0; j0 < part.lists; j0 += pair_threads) {
        const int j = j0 + static_cast<int>(threadIdx.x);
        const int count = j < part.lists ? ends[j] - offsets[j] : 0;
        int all;
        const int at = placed + block_exclusive_sum(count, all);
        placed += all;
        if (j >= part.lists) continue;
        s.bits[j] = {};
        s.next[j] = at;
        s.shift[j] = p.list_begin[part.list_index(j)] + offsets[j] - at;
    }
    return placed;
}

template <int Width>
__device__ void emit_segment(const Params& p, const Part& part, int segment, unsigned char* raw) {
    using Shape = PairShape<Width>;
    using Query = typename Shape::Query;
    const int begin = part.row_begin + segment * p.plan.segment_rows;
    const int end = min(begin + p.plan.segment_rows, part.row_end);
    if (begin >= end) return;
    const int t = static_cast<int>(threadIdx.x), lane = t % Query::lanes;
    const unsigned lanes_before = ((1u << lane) - 1) << (t % 32 - lane);  // of the same query
    const unsigned query_lanes = (Query::lanes == 32 ? full_warp : (1u << (Query::lanes % 32)) - 1) << (t % 32 - lane);
    const EmitShared<Width> s(p, raw);
    const int entries = place_lists(p, part, segment, s);
    __syncthreads();
    const int slots = p.plan.slots;
    std::int32_t* positions = p.positions + static_cast<std::int64_t>(part.local_head) * p.chunk.token_count * slots +
                              (static_cast<std::int64_t>(part.sequence.q_begin) - p.chunk.token_begin) * slots;

    TileQueries<Width> next_tile;
    next_tile.load(p, part, begin, end);
    for (int row0 = begin; row0 < end; row0 += Shape::tile_queries) {
        const TileQueries<Width> tile = next_tile;
        next_tile.load(p, part, row0 + Shape::tile_queries, end);
        typename Query::Leader leader[Shape::passes][Query::per_lane];
#pragma unroll
        for (int pass = 0; pass < Shape::passes; ++pass) {
            const int query = Shape::query(pass);
            Query(tile.raw[pass], candidates_of(p, part, row0 + query)).leaders(p.list_shift, leader[pass]);
#pragma unroll
            for (int r = 0; r < Query::per_lane; ++r) {
                if (leader[pass][r].leads) {
                    atomicOr(s.bits[leader[pass][r].list].word + query / 32, 1u << (query % 32));
                }
            }
        }
        __syncthreads();
        int after[Shape::passes][Query::per_lane];  // where the list goes on, from its last query in the tile; else -1
#pragma unroll
        for (int pass = 0; pass < Shape::passes; ++pass) {
            const int query = Shape::query(pass), row = row0 + query;
            int leaders = 0;  // of the query, so far
#pragma unroll
            for (int r = 0; r < Query::per_lane; ++r) {
                const auto& mine = leader[pass][r];
                const unsigned leading = __ballot_sync(full_warp, mine.leads);
                after[pass][r] = -1;
                if (mine.leads) {
                    int total;
                    const int rank = rank_in_list(s.bits[mine.list], query, total);
                    const int at = s.next[mine.list] + rank;
                    s.staged[at] = static_cast<std::uint32_t>(row) | (mine.mask << 24);
                    s.list[at] = static_cast<std::uint16_t>(mine.list);
                    positions[static_cast<std::int64_t>(row) * slots + leaders + __popc(leading & lanes_before)] =
                        at + s.shift[mine.list];
                    if (rank == total - 1) after[pass][r] = at + 1;
                }
                leaders += __popc(leading & query_lanes);
            }
#pragma unroll
            for (int r = 0; r < Query::per_lane; ++r) {
                const int slot = r * Query::lanes + lane;
                if (row < end && slot >= leaders && slot < slots)
                    positions[static_cast<std::int64_t>(row) * slots + slot] = -1;
            }
        }
        __syncthreads();
        // Only what was touched is cleared.
#pragma unroll
        for (int pass = 0; pass < Shape::passes; ++pass) {
#pragma unroll
            for (int r = 0; r < Query::per_lane; ++r) {
                const auto& mine = leader[pass][r];
                if (mine.leads) s.bits[mine.list].word[Shape::query(pass) / 32] = 0;
                if (after[pass][r] >= 0) s.next[mine.list] = after[pass][r];
            }
        }
        __syncthreads();
    }
    for (int i = t; i < entries; i += pair_threads) p.entries[s.shift[s.list[i]] + i] = s.staged[i];
}

__device__ void write_items(const Params& p, const Part& part, int list, std::int64_t at) {
    const int own_begin = part.own_begin(p, list), own_end = part.own_end(p, list);
    const int own_tiles = tiles_of(own_end - own_begin);
    const int rows = p.list_count[part.list_index(list)];
    const int first_row = p.list_begin[part.list_index(list)];
    const int items = items_of(p, own_end - own_begin, rows);
    for (int i = 0; i < items; ++i) {
        const int tile = max(i * p.plan.tiles_per_item - own_tiles, 0);
        const int tile_end = (i + 1) * p.plan.tiles_per_item - own_tiles;
        ListItem item;
        item.sequence = part.b;
        item.head = p.chunk.head_begin + part.local_head;
        item.list = list;
        item.first_row = first_row + tile * list_tile_rows;
        item.rows = max(min(rows, tile_end * list_tile_rows) - tile * list_tile_rows, 0);
        item.own_begin = i == 0 ? own_begin : 0;
        item.own_end = i == 0 ? own_end : 0;
        item.list_rows = rows;
        p.items[at + i] = item;
    }
}

/// The items of one piece and the query heads of one key head; `part` is that of the first of these heads in its
/// window.
__device__ void emit_items(const Params& p, const Part& part, int piece) {
    const int group = p.plan.heads_q / p.plan.heads_k;
    const int head = p.chunk.head_begin + part.local_head, head_of_window = part.local_head % p.plan.heads_per_window;
    if (head_of_window > 0 && head % group != 0) return;
    const int heads =
        min(min(group - head % group, p.plan.heads_per_window - head_of_window), p.chunk.head_count - part.local_head);
    int at = p.item_begin[part.number];
    for (int j0 = 0; j0 < part.lists; j0 += static_cast<int>(blockDim.x)) {
        const int list = j0 + static_cast<int>(threadIdx.x);
        int items = 0, all;
        if (list < part.lists) {
            const int own = part.own_end(p, list) - part.own_begin(p, list);
            for (int h = 0; h < heads; ++h)
                items += items_of(p, own, p.list_count[part.list_index_of_head(p, list, h)]);
        }
        std::int64_t to = at + block_exclusive_sum(items, all);
        at += all;
        if (list >= part.lists) continue;
        for (int h = 0; h < heads; ++h) {
            const Part other(p, piece, part.local_head + h);
            write_items(p, other, list, to);
            to += items_of(p, other.own_end(p, list) - other.own_begin(p, list), p.list_count[other.list_index(list)]);
        }
    }
}

template <int Width>
__global__ void __launch_bounds__(pair_threads, Width <= 16 ? 2 : 1) emit_kernel(const Params p) {
    extern __shared__ __align__(16) unsigned char emit_raw[];
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const int share = static_cast<int>(blockIdx.x) % (p.plan.segments_max + 1);  // of a piece: its items, its segments
    const int piece = static_cast<int>(blockIdx.x) / (p.plan.segments_max + 1);
    const Part part(p, piece, static_cast<int>(blockIdx.y));
    if (share == 0) {
        emit_items(p, part, piece);
    } else if (p.plan.slots > 0) {
        emit_segment<Width>(p, part, share - 1, emit_raw);
    }
}

std::size_t carve(const ListPlan& plan, void* workspace, Params& p) {
    WorkspaceCarver carver(workspace);
    const std::int64_t heads = plan.heads_per_chunk;
    p.counts = carver.take<std::int32_t>(heads * plan.segments_per_head * plan.lists_max);
    p.list_begin = carver.take<std::int32_t>(heads * plan.token_windows * plan.lists_per_head);
    p.list_count = carver.take<std::int32_t>(heads * plan.token_windows * plan.lists_per_head);
    p.item_begin = carver.take<std::int32_t>(heads * plan.pieces);
    p.entries = carver.take<std::uint32_t>(plan.rows);
    p.positions = carver.take<std::int32_t>(heads * plan.tokens_per_chunk * plan.slots);
    p.items = carver.take<ListItem>(plan.items_max);
    p.window_items = carver.take<std::int32_t>(plan.windows() + 1);
    return carver.used();
}

Status allow_shared(const void* kernel, std::size_t bytes) {
    return device_status(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)), "lists");
}

template <int Width>
Status launch(const Params& p, cudaStream_t stream) {
    const ListPlan& plan = p.plan;
    const auto heads = static_cast<unsigned>(p.chunk.head_count), pieces = static_cast<unsigned>(plan.pieces);
    const auto segments = static_cast<unsigned>(plan.segments_max);
    const std::size_t list_bytes = static_cast<std::size_t>(plan.lists_max) * sizeof(std::int32_t);
    if (plan.slots > 0) {
        if (Status s = allow_shared(reinterpret_cast<const void*>(count_kernel<Width>), list_bytes); !s.ok()) return s;
        if (Status s = launch_early("count_kernel", count_kernel<Width>, dim3(segments * pieces, heads), pair_threads,
                                    list_bytes, stream, p);
            !s.ok())
            return s;
    }
    const auto threads = static_cast<unsigned>(std::clamp((plan.lists_max + 31) / 32 * 32, 32, scan_threads));
    if (Status s = launch_early("scan_kernel", scan_kernel, dim3(pieces, heads), threads, 0, stream, p); !s.ok())
        return s;
    if (Status s = launch_early("number_kernel", number_kernel, dim3(1), scan_threads, 0, stream, p); !s.ok()) return s;
    const std::size_t bytes = static_cast<std::size_t>(plan.lists_max) * EmitShared<Width>::list_bytes +
                              static_cast<std::size_t>(plan.segment_rows) * static_cast<std::size_t>(plan.slots) *
                                  EmitShared<Width>::pair_bytes;
    if (Status s = allow_shared(reinterpret_cast<const void*>(emit_kernel<Width>), bytes); !s.ok()) return s;
    return launch_early("emit_kernel", emit_kernel<Width>, dim3((segments + 1) * pieces, heads), pair_threads, bytes,
                        stream, p);
}

}  // namespace

std::size_t list_workspace_size(const ListPlan& plan) {
    Params p{};
    return carve(plan, nullptr, p);
}

Status build_lists(const ListPlan& plan, std::int32_t chunk, const std::int32_t* selection, void* workspace,
                   cudaStream_t stream, ListView& view) {
    Params p{};
    p.plan = plan;
    p.chunk = plan.chunk(chunk);
    p.selection = selection;
    p.list_shift = std::countr_zero(static_cast<std::uint32_t>(plan.blocks_per_list));
    p.block_shift = std::countr_zero(static_cast<std::uint32_t>(plan.block_size));
    if (plan.rows > std::numeric_limits<std::int32_t>::max()) {
        return {StatusCode::unsupported, "lists: " + std::to_string(plan.rows) +
                                             " rows in one chunk do not fit 32-bit row numbers; nearest valid choice: "
                                             "fewer rows per chunk"};
    }
    carve(plan, workspace, p);
    view = {p.chunk, p.entries, p.positions, p.items, p.window_items + plan.windows(), p.window_items};
    if (plan.slots <= 8) return launch<8>(p, stream);
    if (plan.slots <= 16) return launch<16>(p, stream);
    if (plan.slots <= 32) return launch<32>(p, stream);
    return launch<64>(p, stream);
}

}  // namespace mobalab::kernels::cuda
