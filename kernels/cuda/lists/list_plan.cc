#include <algorithm>

#include "kernels/cuda/host/path.h"
#include "kernels/cuda/lists/lists.h"
#include "kernels/cuda/lists/pair_shape.h"

namespace mobalab::kernels::cuda {
namespace {

// Of an item, where options ask for fewer: the own queries of a block of 512 keys stay together, beside its keys.
constexpr std::int64_t most_own_tiles = 8;
constexpr std::int64_t least_tokens = 1024;  // of a chunk; smaller ones would waste their lists' padding
// Thread blocks of a chunk: two for every multiprocessor are in work at a time, and each begins with a chain of loads.
// With this many segments they may have more queries than emit_kernel takes at a time: tables of counts are smaller.
constexpr std::int64_t target_segments = 256, many_segments = 1024;
constexpr std::int64_t least_segment = 64, usual_segment = 2048, longest_segment = 8192;
constexpr std::int64_t longest_selected_segment = 1024;  // of more slots than a thread sorts
constexpr std::int64_t selected_list_bytes = 24;         // of shared memory, there
constexpr std::int64_t kernel_bytes = 1024;              // of shared memory that kernels have beside what is planned

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
    return (a + b - 1) / b;
}

/// What lists and sequences of `tokens` consecutive query tokens can count, as piece_base() numbers them from the first
/// of them on. of_all: the tokens begin at a multiple of their number.
std::int64_t list_numbers(const ListPlan& plan, std::int64_t tokens, bool of_all) {
    const Sequences& sequences = plan.sequences;
    const std::int64_t all = static_cast<std::int64_t>(plan.lists_per_head) + sequences.batch;
    if (sequences.cu_seqlens_q != nullptr || tokens == 0) return all;
    const bool aligned = of_all && (tokens % sequences.seqlen_q == 0 || sequences.seqlen_q % tokens == 0);
    const std::int64_t met = ceil_div(tokens, sequences.seqlen_q) + (aligned ? 0 : 1);
    return std::min(all, ceil_div(met * sequences.seqlen_k, plan.keys_per_list) + 2 * met);
}

/// Rows one head of a window can need: every query with all its slots, and per list less than a tile of padding. The
/// last term rounds the beginning of every sequence's rows.
std::int64_t rows_of_window(const ListPlan& plan, std::int64_t tokens, bool of_all) {
    const std::int64_t rows = tokens * plan.slots + list_tile_rows * list_numbers(plan, tokens, of_all);
    return ceil_div(rows, list_tile_rows) * list_tile_rows;
}

/// Rows one head of a chunk can need, whose windows pad their lists each.
std::int64_t rows_of_head(const ListPlan& plan, std::int64_t tokens, std::int64_t window) {
    const bool of_all = tokens == plan.tokens_q;
    if (window <= 0 || tokens <= window) return rows_of_window(plan, tokens, of_all);
    return ceil_div(tokens, window) * rows_of_window(plan, window, of_all);
}

/// The largest number of heads that fits: all, whole groups of a key head, single heads; 0 when not even one does.
std::int64_t heads_that_fit(const ListPlan& plan, std::int64_t max_rows, std::int64_t window) {
    const std::int64_t fit = std::min<std::int64_t>(plan.heads_q, max_rows / rows_of_head(plan, plan.tokens_q, window));
    const std::int64_t group = plan.heads_q / plan.heads_k;
    if (fit < group) return fit;
    const std::int64_t groups = fit / group;
    // The same number of chunks with heads spread evenly.
    return ceil_div(plan.heads_k, ceil_div(plan.heads_k, groups)) * group;
}

/// The largest power of two of tokens that one head can afford.
std::int64_t tokens_that_fit(const ListPlan& plan, std::int64_t max_rows, std::int64_t window) {
    std::int64_t tokens = least_tokens;
    while (tokens * 2 < plan.tokens_q && rows_of_head(plan, tokens * 2, window) <= max_rows) tokens *= 2;
    return std::min<std::int64_t>(tokens, plan.tokens_q);
}

/// Heads and tokens of a window, and how many of them a chunk has.
void divide_into_windows(ListPlan& plan, std::int64_t window) {
    if (window <= 0) {
        plan.heads_per_window = plan.heads_per_chunk;
        plan.tokens_per_window = plan.tokens_per_chunk;
        return;
    }
    const std::int32_t group = plan.heads_q / plan.heads_k;
    plan.heads_per_window = plan.heads_per_chunk % group == 0 ? group : 1;
    plan.tokens_per_window = static_cast<std::int32_t>(std::min<std::int64_t>(window, plan.tokens_per_chunk));
    plan.head_windows = plan.heads_per_chunk / plan.heads_per_window;
    plan.token_windows =
        static_cast<std::int32_t>(ceil_div(plan.tokens_per_chunk, std::max(plan.tokens_per_window, 1)));
}

/// Shared memory of a thread block.
std::int64_t shared_bytes() {
    return (current_path() == CudaPath::hopper ? hopper_shared_memory : portable_shared_memory) - kernel_bytes;
}

/// What leaves room for the pairs of the least thread block.
std::int32_t lists_that_fit(const ListPlan& plan) {
    const std::int64_t fit = plan.slots > most_sorted_slots
                                 ? shared_bytes() / selected_list_bytes
                                 : (shared_bytes() - emit_bytes(0, plan.slots, usual_emit_warps)) /
                                       emit_list_bytes(usual_emit_warps) / lists_together * lists_together;
    return static_cast<std::int32_t>(std::min({std::int64_t{plan.lists_max}, most_lists_per_range, fit}));
}

/// Queries per segment: enough thread blocks.
std::int64_t segment_size(const ListPlan& plan, std::int64_t queries) {
    if (plan.slots > most_sorted_slots) {
        return std::clamp(queries / target_segments / least_segment * least_segment, least_segment,
                          longest_selected_segment);
    }
    std::int64_t size = least_segment;
    while (size < usual_segment && queries / (size * 2) >= target_segments) size *= 2;
    while (size >= usual_segment && size < longest_segment && queries / (size * 2) >= many_segments) size *= 2;
    return size;
}

/// Warps of a thread block of emit_kernel: more where a multiprocessor has one thread block whichever they are.
std::int32_t choose_emit_warps(const ListPlan& plan) {
    const int lone = lone_emit_warps(pair_width(plan.slots));
    const bool room_for_two = 2 * emit_bytes(plan.lists_per_range, plan.slots, usual_emit_warps) <= shared_bytes();
    const bool fits = emit_bytes(plan.lists_per_range, plan.slots, lone) <= shared_bytes();
    return !room_for_two && fits && plan.segment_rows >= lone * tile_queries ? lone : usual_emit_warps;
}

/// Items: every list's own queries, and its rows in pieces; each list adds at most one piece that is not full.
std::int64_t bound_items(const ListPlan& plan) {
    const std::int64_t tiles =
        plan.rows / list_tile_rows +
        ceil_div(static_cast<std::int64_t>(plan.tokens_per_chunk) * plan.heads_per_chunk, list_tile_rows);
    const std::int64_t lists =
        static_cast<std::int64_t>(plan.heads_per_chunk) * plan.token_windows * plan.lists_per_head;
    return tiles / plan.tiles_per_item + 2 * lists;
}

}  // namespace

ListChunk ListPlan::chunk(std::int32_t index) const {
    ListChunk chunk;
    chunk.head_begin = index / token_groups * heads_per_chunk;
    chunk.head_count = std::min(heads_per_chunk, heads_q - chunk.head_begin);
    chunk.token_begin = index % token_groups * tokens_per_chunk;
    chunk.token_count = std::min(tokens_per_chunk, tokens_q - chunk.token_begin);
    return chunk;
}

ListPlan make_list_plan(const Problem& problem, const ListOptions& options) {
    ListPlan plan;
    plan.sequences = make_sequences(problem);
    plan.heads_q = static_cast<std::int32_t>(problem.heads_q);
    plan.heads_k = static_cast<std::int32_t>(problem.heads_k);
    plan.tokens_q = static_cast<std::int32_t>(problem.tokens_q());
    plan.slots = static_cast<std::int32_t>(problem.routed());
    plan.causal = problem.causal;
    plan.blocks = Candidates(problem);
    plan.block_size = static_cast<std::int32_t>(problem.block_size);
    const std::int64_t keys = keys_of_list(problem.block_size, options.shared_list);
    plan.keys_per_list = static_cast<std::int32_t>(keys);
    plan.blocks_per_list = static_cast<std::int32_t>(blocks_of_list(problem.block_size, options.shared_list));
    plan.lists_max = static_cast<std::int32_t>(ceil_div(problem.seqlen_k, keys));
    plan.lists_per_range = lists_that_fit(plan);
    plan.lists_per_head = static_cast<std::int32_t>(padded_pieces(problem.tokens_k(), problem.batch, keys));
    plan.tiles_per_item =
        std::max(options.tiles_per_item, static_cast<std::int32_t>(std::min(keys / list_tile_rows, most_own_tiles)));

    const std::int64_t heads = heads_that_fit(plan, options.max_rows, options.window);
    plan.heads_per_chunk = static_cast<std::int32_t>(std::max<std::int64_t>(heads, 1));
    plan.tokens_per_chunk =
        heads > 0 ? plan.tokens_q : static_cast<std::int32_t>(tokens_that_fit(plan, options.max_rows, options.window));
    plan.head_groups = static_cast<std::int32_t>(ceil_div(plan.heads_q, plan.heads_per_chunk));
    plan.token_groups = static_cast<std::int32_t>(ceil_div(plan.tokens_q, std::max(plan.tokens_per_chunk, 1)));
    divide_into_windows(plan, options.window);
    plan.pieces = plan.token_windows + plan.sequences.batch - 1;
    plan.rows_per_head = rows_of_window(plan, plan.tokens_per_window, plan.tokens_per_chunk == plan.tokens_q);
    plan.rows_per_window = plan.rows_per_head * plan.heads_per_window;
    plan.rows = plan.rows_per_window * plan.windows();

    const std::int64_t queries = static_cast<std::int64_t>(plan.tokens_per_chunk) * plan.heads_per_chunk;
    plan.segment_rows = static_cast<std::int32_t>(segment_size(plan, queries));
    plan.emit_warps = choose_emit_warps(plan);
    const std::int64_t longest = std::min<std::int64_t>(problem.seqlen_q, plan.tokens_per_window);
    plan.segments_max = static_cast<std::int32_t>(ceil_div(longest, plan.segment_rows));
    plan.segments_per_head =
        static_cast<std::int32_t>(padded_pieces(plan.tokens_per_chunk, plan.pieces, plan.segment_rows));
    plan.items_max = static_cast<std::int32_t>(bound_items(plan));
    return plan;
}

}  // namespace mobalab::kernels::cuda
