#pragma once

#include <cstdint>

#include "kernels/cuda/lists/lists.h"

namespace mobalab::kernels::cuda {

/// What the kernels that build lists are given.
struct ListParams {
    ListPlan plan;
    ListChunk chunk;
    const std::int32_t* selection;
    std::int32_t list_shift;   // log2 of blocks per list
    std::int32_t* counts;      // [head][segment][lists_max]: count() writes numbers, scan() turns them into offsets
    std::int32_t* list_count;  // [head][token window][lists_per_head]
    std::int32_t* item_count;  // [head window][piece][head of the window]: of each part
    std::int32_t* item_count_of_group;  // of parts_per_group parts
    std::uint32_t* entries;
    std::int32_t* positions;
    ListItem* items;
    std::int32_t* window_items;
    std::int32_t* counters;
};

inline constexpr int parts_per_group = 1024;

/// Numbers of parts lie below this.
MOBALAB_HOST_DEVICE std::int32_t parts_of(const ListPlan& plan) {
    return plan.head_windows * plan.pieces * plan.heads_per_window;
}

/// Where the queries of sequence b begin, in tokens of the chunk; 0 when they begin before it.
__device__ __forceinline__ int tokens_before(const ListParams& p, int b) {
    const Sequences& sequences = p.plan.sequences;
    const int begin = sequences.cu_seqlens_q == nullptr ? b * sequences.seqlen_q : __ldg(sequences.cu_seqlens_q + b);
    return max(begin - p.chunk.token_begin, 0);
}

/// The sequence of a piece (drawn in lists.h).
__device__ __forceinline__ int sequence_of_piece(const ListParams& p, int piece) {
    int low = 0, high = p.plan.sequences.batch;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        const bool begun = piece_base(tokens_before(p, middle), middle, p.plan.tokens_per_window) <= piece;
        (begun ? low : high) = middle;
    }
    return low;
}

/// One head of a piece.
struct ListPart {
    Sequence sequence;
    int b, local_head;  // head - head_begin
    int window;         // of tokens
    int row_begin, row_end;
    int lists;                  // that queries of the part can be in
    std::int64_t list_base;     // in list_count
    std::int64_t segment_base;  // in a head's segments
    std::int64_t first_row;     // where the rows of this part begin in the chunk
    std::int64_t number;        // of the part

    __device__ ListPart(const ListParams& p, int piece, int local_head_)
        : b(sequence_of_piece(p, piece)), local_head(local_head_), window(piece - b) {
        const ListPlan& plan = p.plan;
        sequence = plan.sequences.at(b);
        const int first_token = p.chunk.token_begin + window * plan.tokens_per_window;
        const int tokens = max(min(plan.tokens_per_window, p.chunk.token_begin + p.chunk.token_count - first_token), 0);
        const int before = sequence.q_begin - first_token;  // negative: the window begins inside the sequence
        row_begin = min(max(-before, 0), sequence.sq);
        row_end = min(max(tokens - before, 0), sequence.sq);
        const int seen = plan.causal ? row_end + sequence.shift() : sequence.sk;  // by its last row
        const int positions = row_begin < row_end ? seen : 0;
        lists = positions > 0 ? (positions - 1) / plan.keys_per_list + 1 : 0;

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
    __device__ std::int32_t* segment_counts(const ListParams& p, int segment) const {
        return p.counts + (static_cast<std::int64_t>(local_head) * p.plan.segments_per_head + segment_base + segment) *
                              p.plan.lists_max;
    }
    __device__ std::int64_t list_index(int list) const { return list_base + list; }
    /// The same list under the head `count` further on in the chunk.
    __device__ std::int64_t list_index_of_head(const ListParams& p, int list, int count) const {
        return list_base + list + static_cast<std::int64_t>(count) * p.plan.token_windows * p.plan.lists_per_head;
    }
    /// Query rows of the part whose own block lies in a list's keys.
    __device__ int own_begin(const ListParams& p, int list) const {
        if (!p.plan.causal) return row_begin;  // nothing up to the next list's
        return min(max(list * p.plan.keys_per_list - sequence.shift(), row_begin), row_end);
    }
    __device__ int own_end(const ListParams& p, int list) const { return own_begin(p, list + 1); }
};

/// The lists of a part that a thread block counts or emits: all, or where there are several ranges those of its own.
struct ListRange {
    int first, count;

    __device__ __forceinline__ ListRange(const ListParams& p, const ListPart& part, int number)
        : first(number * p.plan.lists_per_range), count(max(min(part.lists - first, p.plan.lists_per_range), 0)) {}
    __device__ __forceinline__ bool holds(int list) const {
        return static_cast<unsigned>(list - first) < static_cast<unsigned>(count);
    }
};

/// What scan() adds to; by one thread for every part.
__device__ __forceinline__ void clear_item_counts(const ListParams& p, const ListPart& part) {
    p.item_count[part.number] = 0;
    if (blockIdx.x > 0 || blockIdx.y > 0) return;
    for (int i = 0; i <= parts_of(p.plan) / parts_per_group; ++i) p.item_count_of_group[i] = 0;
}

__device__ __forceinline__ int items_of(const ListParams& p, int own_rows, int list_rows) {
    return (tiles_of(own_rows) + tiles_of(list_rows) + p.plan.tiles_per_item - 1) / p.plan.tiles_per_item;
}

}  // namespace mobalab::kernels::cuda
