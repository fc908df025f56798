#include "kernels/cuda/lists.h"

#include <algorithm>
#include <limits>
#include <string>

#include "kernels/cuda/status.h"
#include "kernels/cuda/workspace.h"

// Three kernels: count (entries per segment of queries and list), scan (where lists and segments begin), emit (entries,
// positions, items). Within a segment, tiles of queries set bits in a bitmap [list][query]; the rank of a query in its
// list is a population count, so the order is that of the queries whatever the order in which threads came.
namespace mobalab::kernels::cuda {
namespace {

constexpr int pair_threads = 512;
constexpr int scan_threads = 1024;
constexpr int most_tile_queries = 256;
constexpr std::size_t comfortable_shared = 110 * 1024;  // two thread blocks on a processor
constexpr std::size_t most_shared = 220 * 1024;

struct Params {
    ListPlan plan;
    ListChunk chunk;
    const std::int32_t* selection;
    std::uint32_t slots_inverse;  // ceil(2^32 / slots), to divide by a multiplication; slots > 1
    std::int32_t tile_queries;    // multiple of 32
    std::int32_t* counts;         // [head][segment][lists_max]: count() writes numbers, scan() turns them into offsets
    std::int32_t* list_begin;     // [head][lists_per_head]
    std::int32_t* list_count;     // [head][lists_per_head]
    std::int32_t* item_totals;    // [sequence][head of the chunk]
    std::uint32_t* entries;
    std::int32_t* positions;
    ListItem* items;
    std::int32_t* item_count;
};

/// The part of one sequence and one head that lies in the chunk.
struct Part {
    Sequence sequence;
    int b, local_head;  // head - head_begin
    int row_begin, row_end;
    int lists;
    std::int64_t list_base;     // of the sequence, in a head's lists
    std::int64_t segment_base;  // likewise
    std::int64_t first_row;     // where the rows of this part begin in the chunk

    __device__ Part(const Params& p, int b_, int local_head_) : b(b_), local_head(local_head_) {
        const ListPlan& plan = p.plan;
        sequence = plan.sequences.at(b);
        const int before = sequence.q_begin - p.chunk.token_begin;  // of the window; negative: the window begins inside
        row_begin = min(max(-before, 0), sequence.sq);
        row_end = min(max(p.chunk.token_count - before, 0), sequence.sq);
        lists = (sequence.sk + plan.keys_per_list - 1) / plan.keys_per_list;
        const std::int64_t tokens = max(before, 0);
        list_base = piece_base(sequence.k_begin, b, plan.keys_per_list);
        segment_base = piece_base(tokens, b, plan.segment_rows);
        first_row = local_head * plan.rows_per_head + tokens * plan.slots / list_tile_rows * list_tile_rows +
                    list_tile_rows * (list_base + b);
    }
    __device__ std::int32_t* segment_counts(const Params& p, int segment) const {
        return p.counts + (static_cast<std::int64_t>(local_head) * p.plan.segments_per_head + segment_base + segment) *
                              p.plan.lists_max;
    }
    __device__ std::int64_t list_index(const Params& p, int list) const {
        return static_cast<std::int64_t>(local_head) * p.plan.lists_per_head + list_base + list;
    }
    /// Query rows of the part whose own block lies in a list's keys.
    __device__ int own_begin(const Params& p, int list) const {
        return min(max(list * p.plan.keys_per_list - sequence.shift(), row_begin), row_end);
    }
    __device__ int own_end(const Params& p, int list) const { return own_begin(p, list + 1); }
};

__device__ __forceinline__ int tiles_of(int rows) {
    return (rows + list_tile_rows - 1) / list_tile_rows;
}

__device__ __forceinline__ int items_of(const Params& p, int own_rows, int list_rows) {
    return (tiles_of(own_rows) + tiles_of(list_rows) + p.plan.tiles_per_item - 1) / p.plan.tiles_per_item;
}

// A (query, slot) pair of a tile after the blocks of a query that share a list were merged: the pair of the first such
// slot leads and carries the mask of all of them.
constexpr std::uint32_t leads = 1u << 31;
constexpr int mask_shift = 16;  // 16 bits are enough for all lists that fit in shared memory
constexpr std::uint32_t list_mask = (1u << mask_shift) - 1;

struct Tile {
    const std::int32_t* blocks;  // [queries][slots] in shared memory
    int slots, blocks_per_list, blocks_in_sequence;

    __device__ __forceinline__ bool valid(int block) const {
        return static_cast<unsigned>(block) < static_cast<unsigned>(blocks_in_sequence);
    }
    __device__ std::uint32_t merged(int query, int slot) const {
        const std::int32_t* row = blocks + query * slots;
        if (!valid(row[slot])) return 0;
        const int list = row[slot] / blocks_per_list;
        std::uint32_t mask = 0;
        for (int s = 0; s < slots; ++s) {
            if (!valid(row[s]) || row[s] / blocks_per_list != list) continue;
            if (s < slot) return 0;
            mask |= 1u << (row[s] % blocks_per_list);
        }
        return leads | (mask << mask_shift) | static_cast<std::uint32_t>(list);
    }
};

__device__ __forceinline__ int query_of_pair(const Params& p, int pair) {
    return p.plan.slots == 1 ? pair : static_cast<int>(__umulhi(static_cast<unsigned>(pair), p.slots_inverse));
}

/// Loads the selected blocks of rows [row0, row0 + queries) into shared memory; the caller synchronises.
__device__ void load_tile(const Params& p, const Part& part, int row0, int queries, std::int32_t* blocks) {
    const std::int64_t head = p.chunk.head_begin + part.local_head;
    const std::int32_t* from = p.selection + (head * p.plan.tokens_q + part.sequence.q_begin + row0) * p.plan.slots;
    for (int i = static_cast<int>(threadIdx.x); i < queries * p.plan.slots; i += pair_threads)
        blocks[i] = __ldg(from + i);
}

__device__ Tile make_tile(const Params& p, const Part& part, const std::int32_t* blocks) {
    const int in_sequence = (part.sequence.sk + p.plan.block_size - 1) / p.plan.block_size;
    return {blocks, p.plan.slots, p.plan.blocks_per_list, in_sequence};
}

__global__ void __launch_bounds__(pair_threads) count_kernel(const Params p) {
    extern __shared__ std::int32_t shared[];
    std::int32_t* histogram = shared;  // [lists]
    std::int32_t* blocks = shared + p.plan.lists_max;
    const Part part(p, static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y));
    const int begin = part.row_begin + static_cast<int>(blockIdx.x) * p.plan.segment_rows;
    const int end = min(begin + p.plan.segment_rows, part.row_end);
    if (begin >= end) return;
    const int t = static_cast<int>(threadIdx.x);
    for (int j = t; j < part.lists; j += pair_threads) histogram[j] = 0;
    const Tile tile = make_tile(p, part, blocks);
    for (int row0 = begin; row0 < end; row0 += p.tile_queries) {
        const int queries = min(p.tile_queries, end - row0);
        __syncthreads();
        load_tile(p, part, row0, queries, blocks);
        __syncthreads();
        for (int i = t; i < queries * p.plan.slots; i += pair_threads) {
            const int query = query_of_pair(p, i);
            const std::uint32_t pair = tile.merged(query, i - query * p.plan.slots);
            if (pair != 0) atomicAdd(histogram + (pair & list_mask), 1);
        }
    }
    __syncthreads();
    std::int32_t* counts = part.segment_counts(p, static_cast<int>(blockIdx.x));
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
    constexpr int batch = 8;
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

__global__ void __launch_bounds__(scan_threads) scan_kernel(const Params p) {
    const Part part(p, static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x));
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
        if (!exists) continue;
        p.list_begin[part.list_index(p, list)] = static_cast<std::int32_t>(begin);
        p.list_count[part.list_index(p, list)] = count;
        for (int i = count; i < padded; ++i) p.entries[begin + i] = list_padding;
    }
    if (threadIdx.x == 0) p.item_totals[part.b * p.chunk.head_count + part.local_head] = items;
}

/// Shared memory of emit_kernel.
struct EmitShared {
    std::int32_t* next;     // [lists]: row of the next entry
    std::uint32_t* bits;    // [lists][words]
    std::int32_t* blocks;   // [pairs]: selected blocks, later the row of a leading pair
    std::uint32_t* merged;  // [pairs]
    int words;

    __device__ EmitShared(const Params& p, std::int32_t* shared) {
        words = p.tile_queries / 32;
        next = shared;
        bits = reinterpret_cast<std::uint32_t*>(next + p.plan.lists_max);
        blocks = reinterpret_cast<std::int32_t*>(bits + p.plan.lists_max * words);
        merged = reinterpret_cast<std::uint32_t*>(blocks + p.tile_queries * p.plan.slots);
    }
};

/// Rank of a query among those of its tile in its list, and their number.
__device__ __forceinline__ int rank_in_list(const EmitShared& s, int list, int query, int& total) {
    int rank = 0;
    total = 0;
    for (int w = 0; w < s.words; ++w) {
        const std::uint32_t word = s.bits[list * s.words + w];
        const int below = query - 32 * w;  // bits of this word that come before the query
        const std::uint32_t before = below >= 32 ? word : below > 0 ? word & ((1u << below) - 1) : 0;
        rank += __popc(before);
        total += __popc(word);
    }
    return rank;
}

__device__ void emit_pair(const Params& p, const Part& part, const EmitShared& s, int row0, int pair) {
    const int slots = p.plan.slots;
    const int query = query_of_pair(p, pair), slot = pair - query * slots;
    int leaders = 0, leaders_before = 0;
    for (int i = 0; i < slots; ++i) {
        const int leader = static_cast<int>(s.merged[query * slots + i] >> 31);
        leaders += leader;
        leaders_before += i < slot ? leader : 0;
    }
    const std::int64_t token = part.sequence.q_begin + row0 + query - p.chunk.token_begin;
    std::int32_t* positions =
        p.positions + (static_cast<std::int64_t>(part.local_head) * p.chunk.token_count + token) * slots;
    const std::uint32_t merged = s.merged[pair];
    if (slot >= leaders) positions[slot] = -1;
    if (merged == 0) return;
    const int list = static_cast<int>(merged & list_mask);
    int total;
    const int rank = rank_in_list(s, list, query, total);
    const int row = s.next[list] + rank;
    p.entries[row] = static_cast<std::uint32_t>(row0 + query) | (((merged >> mask_shift) & 0xffu) << 24);
    positions[leaders_before] = row;
    s.blocks[pair] = rank == total - 1 ? row : -1;
}

__device__ void emit_segment(const Params& p, const Part& part, int segment, std::int32_t* raw) {
    const int begin = part.row_begin + segment * p.plan.segment_rows;
    const int end = min(begin + p.plan.segment_rows, part.row_end);
    if (begin >= end) return;
    const EmitShared s(p, raw);
    const int t = static_cast<int>(threadIdx.x);
    const std::int32_t* offsets = part.segment_counts(p, segment);
    for (int j = t; j < part.lists; j += pair_threads) s.next[j] = p.list_begin[part.list_index(p, j)] + offsets[j];
    for (int j = t; j < part.lists * s.words; j += pair_threads) s.bits[j] = 0;
    const Tile tile = make_tile(p, part, s.blocks);
    for (int row0 = begin; row0 < end; row0 += p.tile_queries) {
        const int queries = min(p.tile_queries, end - row0);
        const int pairs = queries * p.plan.slots;
        load_tile(p, part, row0, queries, s.blocks);
        __syncthreads();
        for (int i = t; i < pairs; i += pair_threads) {
            const int query = query_of_pair(p, i);
            const std::uint32_t merged = tile.merged(query, i - query * p.plan.slots);
            s.merged[i] = merged;
            if (merged != 0) {
                atomicOr(s.bits + (merged & list_mask) * static_cast<unsigned>(s.words) + query / 32,
                         1u << (query % 32));
            }
        }
        __syncthreads();
        for (int i = t; i < pairs; i += pair_threads) emit_pair(p, part, s, row0, i);
        __syncthreads();
        // Only what was touched is cleared; a pair's own thread wrote blocks[i] and is the next to overwrite it.
        for (int i = t; i < pairs; i += pair_threads) {
            const std::uint32_t merged = s.merged[i];
            if (merged == 0) continue;
            const std::uint32_t list = merged & list_mask;
            s.bits[list * static_cast<unsigned>(s.words) + query_of_pair(p, i) / 32] = 0;
            if (s.blocks[i] >= 0) s.next[list] = s.blocks[i] + 1;
        }
    }
}

__device__ void write_items(const Params& p, const Part& part, int list, std::int64_t at) {
    const int own_begin = part.own_begin(p, list), own_end = part.own_end(p, list);
    const int own_tiles = tiles_of(own_end - own_begin);
    const int rows = p.list_count[part.list_index(p, list)];
    const int first_row = p.list_begin[part.list_index(p, list)];
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

/// The items of one sequence and the query heads of one key head; `part` is that of the first of these heads.
__device__ void emit_items(const Params& p, const Part& part) {
    const int group = p.plan.heads_q / p.plan.heads_k;
    const int head = p.chunk.head_begin + part.local_head;
    if (part.local_head > 0 && head % group != 0) return;
    const int heads = min(group - head % group, p.chunk.head_count - part.local_head);

    const int first_total = part.b * p.chunk.head_count + part.local_head;
    int mine = 0, at;
    for (int i = static_cast<int>(threadIdx.x); i < first_total; i += static_cast<int>(blockDim.x))
        mine += p.item_totals[i];
    block_exclusive_sum(mine, at);
    for (int j0 = 0; j0 < part.lists; j0 += static_cast<int>(blockDim.x)) {
        const int list = j0 + static_cast<int>(threadIdx.x);
        int items = 0, all;
        if (list < part.lists) {
            const int own = part.own_end(p, list) - part.own_begin(p, list);
            for (int h = 0; h < heads; ++h) {
                items += items_of(p, own, p.list_count[part.list_index(p, list) + h * p.plan.lists_per_head]);
            }
        }
        std::int64_t to = at + block_exclusive_sum(items, all);
        at += all;
        if (list >= part.lists) continue;
        for (int h = 0; h < heads; ++h) {
            const Part other(p, part.b, part.local_head + h);
            write_items(p, other, list, to);
            to +=
                items_of(p, other.own_end(p, list) - other.own_begin(p, list), p.list_count[other.list_index(p, list)]);
        }
    }
    const bool last = part.b + 1 == p.plan.sequences.batch && part.local_head + heads == p.chunk.head_count;
    if (last && threadIdx.x == 0) *p.item_count = at;
}

__global__ void __launch_bounds__(pair_threads) emit_kernel(const Params p) {
    extern __shared__ std::int32_t shared[];
    const Part part(p, static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y));
    if (blockIdx.x == 0) {
        emit_items(p, part);
    } else {
        emit_segment(p, part, static_cast<int>(blockIdx.x) - 1, shared);
    }
}

std::size_t pair_bytes(const ListPlan& plan, int tile_queries) {
    return static_cast<std::size_t>(tile_queries) * static_cast<std::size_t>(plan.slots) * sizeof(std::int32_t);
}
std::size_t count_shared(const ListPlan& plan, int tile_queries) {
    return static_cast<std::size_t>(plan.lists_max) * sizeof(std::int32_t) + pair_bytes(plan, tile_queries);
}
std::size_t emit_shared(const ListPlan& plan, int tile_queries) {
    const auto lists = static_cast<std::size_t>(plan.lists_max);
    return lists * (sizeof(std::int32_t) + static_cast<std::size_t>(tile_queries) / 8) +
           2 * pair_bytes(plan, tile_queries);
}

int choose_tile(const ListPlan& plan) {
    for (const std::size_t limit : {comfortable_shared, most_shared}) {
        for (int queries = most_tile_queries; queries >= 32; queries /= 2) {
            if (emit_shared(plan, queries) <= limit) return queries;
        }
    }
    return 0;
}

std::size_t carve(const ListPlan& plan, void* workspace, Params& p) {
    WorkspaceCarver carver(workspace);
    const std::int64_t heads = plan.heads_per_chunk;
    p.counts = carver.take<std::int32_t>(heads * plan.segments_per_head * plan.lists_max);
    p.list_begin = carver.take<std::int32_t>(heads * plan.lists_per_head);
    p.list_count = carver.take<std::int32_t>(heads * plan.lists_per_head);
    p.item_totals = carver.take<std::int32_t>(heads * plan.sequences.batch);
    p.entries = carver.take<std::uint32_t>(plan.rows);
    p.positions = carver.take<std::int32_t>(heads * plan.tokens_per_chunk * plan.slots);
    p.items = carver.take<ListItem>(plan.items_max);
    p.item_count = carver.take<std::int32_t>(1);
    return carver.used();
}

Status launch(const Params& p, cudaStream_t stream) {
    const ListPlan& plan = p.plan;
    const auto heads = static_cast<unsigned>(p.chunk.head_count);
    const auto batch = static_cast<unsigned>(plan.sequences.batch);
    const auto segments = plan.slots == 0 ? 0u : static_cast<unsigned>(plan.segments_max);
    if (segments > 0) {
        const std::size_t shared = count_shared(plan, p.tile_queries);
        if (Status s = device_status(cudaFuncSetAttribute(count_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                          static_cast<int>(shared)),
                                     "count_kernel");
            !s.ok()) {
            return s;
        }
        count_kernel<<<dim3(segments, heads, batch), pair_threads, shared, stream>>>(p);
        if (Status s = launch_status("count_kernel"); !s.ok()) return s;
    }
    const int threads = std::clamp((plan.lists_max + 31) / 32 * 32, 32, scan_threads);
    scan_kernel<<<dim3(heads, batch), static_cast<unsigned>(threads), 0, stream>>>(p);
    if (Status s = launch_status("scan_kernel"); !s.ok()) return s;
    const std::size_t shared = emit_shared(plan, p.tile_queries);
    if (Status s = device_status(
            cudaFuncSetAttribute(emit_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
            "emit_kernel");
        !s.ok()) {
        return s;
    }
    emit_kernel<<<dim3(segments + 1, heads, batch), pair_threads, shared, stream>>>(p);
    return launch_status("emit_kernel");
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
    p.slots_inverse = plan.slots > 1 ? 0xffffffffu / static_cast<std::uint32_t>(plan.slots) + 1 : 0;
    p.tile_queries = choose_tile(plan);
    if (p.tile_queries == 0) {
        return {StatusCode::unsupported,
                "seqlen_k: " + std::to_string(plan.lists_max) +
                    " runs of keys in one sequence are more than backend cuda sorts into lists; "
                    "nearest valid choice: 2 million keys"};
    }
    if (plan.rows > std::numeric_limits<std::int32_t>::max()) {
        return {StatusCode::unsupported, "lists: " + std::to_string(plan.rows) +
                                             " rows in one chunk do not fit 32-bit row numbers; nearest valid choice: "
                                             "fewer rows per chunk"};
    }
    carve(plan, workspace, p);
    view = {p.chunk, p.entries, p.positions, p.items, p.item_count};
    return launch(p, stream);
}

}  // namespace mobalab::kernels::cuda
