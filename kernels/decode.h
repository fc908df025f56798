#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace mobalab::kernels {

// Decoding: the keys and values of a batch of sequences stand in a cache that grows, and so do the scorer's summaries
// of them, so that a step reads what it attends to and no more. Semantics are those of kernels.h: a step gives the last
// rows of moba_forward() over the whole sequences.
//
// The problem of these operations:
//   - seqlen_k is what a sequence may grow to. It sizes the summaries, the block table and the slots of a selection
//     (routed()), and stays the same from step to step; how long each sequence is says Cache::lengths;
//   - seqlen_q rows of queries a sequence, the last ones: row r of sequence b stands at position lengths[b] - seqlen_q
//     + r. Rows before every key (a sequence shorter than seqlen_q, an empty one) see none, as everywhere;
//   - cu_seqlens_q and cu_seqlens_k are null;
//   - it is causal.
//
// k and v are tensors with free strides: [batch, seqlen_k, heads_k, head_dim (of v: head_dim_v)] where the key at
// position t of sequence b is row t of entry b; with a block table [pages, page_size, heads_k, head_dim (head_dim_v)]
// where it is row t % page_size of page block_table[b][t / page_size]. Pages need not have anything to do with blocks:
// any size is taken. Two entries of the table may name one page (a shared prefix).
//
// What no length reaches is never looked at: keys, values, table entries and summaries behind the last key may hold
// anything.

/// Where the keys of each sequence stand. The arrays are backend's memory, the contents of both checked where that is
/// the host's. On backend cuda they are the caller's word (and may change between the replays of a CUDA graph):
/// whatever they hold, no kernel reads or writes outside the tensors, but results are then unspecified.
struct Cache {
    const std::int32_t* lengths = nullptr;  ///< [batch], each in [0, seqlen_k]: keys of the sequence
    const std::int32_t* block_table =
        nullptr;                 ///< [batch, pages_per_sequence()]: pages, in [0, pages); null: not paged
    std::int64_t pages = 0;      ///< used with a block table only, as is page_size
    std::int64_t page_size = 0;  ///< keys of a page, at least 1

    /// Columns of the block table.
    std::int64_t pages_per_sequence(std::int64_t seqlen_k) const { return (seqlen_k + page_size - 1) / page_size; }
};

/// Brings what compute_centroids() keeps of every sequence up to its length, of which the last `appended` keys are new
/// (at least 0; where a sequence has fewer, all of its keys are; a number that is too large costs time and changes
/// nothing). `centroids` is shaped as compute_centroids() writes it for `batch` sequences of seqlen_k keys, and holds
/// what it or this function wrote for the keys before the new ones. Blocks that hold new keys are summarised again from
/// all of their keys, so every bit is the one that compute_centroids() writes for sequences of these lengths. Nothing
/// else is written.
///
/// A sequence's cost is that of reading at most block_size - 1 + appended keys; with Centroids::centred block_size
/// more, those of block 0. Scorer random keeps nothing: `centroids` may then be null.
Status append_centroids(const Problem& problem, const Cache& cache, ConstTensor k, std::int64_t appended,
                        void* centroids, const Execution& execution);

/// The blocks of each row, from summaries that append_centroids() keeps: selection, scores (may be null) and their
/// order are those of route_with_centroids(), [heads_q, batch * seqlen_q, routed()]. Scores are within rounding of its
/// (sums in fp32, in another order), equal summaries have equal ones.
Status decode_route(const Problem& problem, const Cache& cache, ConstTensor q, const void* centroids,
                    std::int32_t* selection, float* scores, const Execution& execution);

/// attention_forward() over the cache: each row's own and selected blocks, each row of `selection` a set. out: like q,
/// [batch, seqlen_q, heads_q, head_dim_v]. lse: fp32 [heads_q, batch * seqlen_q].
Status decode_attention(const Problem& problem, const Cache& cache, ConstTensor q, ConstTensor k, ConstTensor v,
                        const std::int32_t* selection, Tensor out, float* lse, const Execution& execution);

/// A step: append_centroids(), decode_route() and decode_attention(), after the caller has put the new keys and values
/// into the cache and raised the lengths. `centroids` and `selection` are written.
Status moba_decode(const Problem& problem, const Cache& cache, ConstTensor q, ConstTensor k, ConstTensor v,
                   std::int64_t appended, void* centroids, Tensor out, float* lse, std::int32_t* selection,
                   const Execution& execution);

}  // namespace mobalab::kernels
