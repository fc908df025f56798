#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/kernels.h"

#ifdef __CUDACC__
#define MOBALAB_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define MOBALAB_HOST_DEVICE inline
#endif

namespace mobalab::kernels::cuda {

/// Where a token lies in a tensor: with cu_seqlens the batch is 0 and tokens are those of all sequences.
struct Place {
    std::int32_t batch = 0, token = 0;

    MOBALAB_HOST_DEVICE Place from(std::int32_t tokens) const { return {batch, token + tokens}; }
};

/// One sequence of a batch: its tokens and how its queries stand against its keys (bottom-right aligned).
struct Sequence {
    std::int32_t q_begin = 0;  ///< query tokens of the sequences before it
    std::int32_t sq = 0;       ///< queries
    std::int32_t k_begin = 0;  ///< key tokens of the sequences before it
    std::int32_t sk = 0;       ///< keys
    Place q, k;                ///< its first query and key

    /// Position of query row 0 among the keys: row r stands at position r + shift(), before every key if that is
    /// negative.
    MOBALAB_HOST_DEVICE std::int32_t shift() const { return sk - sq; }
};

/// The sequences of a problem, as kernels take them by value. The pointers are device memory or null, and nobody has
/// looked at what they hold: at() gives sequences inside the tensors and no longer than the longest, whatever it is.
/// They may then overlap; kernels that could not bear that use checked_sequences().
struct Sequences {
    std::int32_t batch = 1;
    std::int32_t seqlen_q = 0;
    std::int32_t seqlen_k = 0;
    std::int32_t total_q = 0, total_k = 0;       ///< used with cu_seqlens only
    const std::int32_t* cu_seqlens_q = nullptr;  ///< null too where an operation has no queries
    const std::int32_t* cu_seqlens_k = nullptr;

#ifdef __CUDACC__
    __device__ __forceinline__ Sequence at(std::int32_t b) const {
        if (cu_seqlens_k == nullptr) {
            return {b * seqlen_q, seqlen_q, b * seqlen_k, seqlen_k, {b, 0}, {b, 0}};
        }
        const Range k = range(cu_seqlens_k, b, total_k, seqlen_k);
        const Range q = cu_seqlens_q == nullptr ? Range{0, 0} : range(cu_seqlens_q, b, total_q, seqlen_q);
        return {q.begin, q.count, k.begin, k.count, {0, q.begin}, {0, k.begin}};
    }
    /// Of query token t, counted over the batch.
    __device__ __forceinline__ Place query(std::int32_t t) const {
        if (cu_seqlens_q != nullptr) return {0, t};
        const auto b = static_cast<std::int32_t>(static_cast<std::uint32_t>(t) / static_cast<std::uint32_t>(seqlen_q));
        return {b, t - b * seqlen_q};
    }
    /// checked_sequences() found the boundaries wrong.
    __device__ __forceinline__ bool refused() const {
        return cu_seqlens_q != nullptr && __ldg(cu_seqlens_q + batch) != total_q;
    }

private:
    struct Range {
        std::int32_t begin, count;
    };
    static __device__ __forceinline__ Range range(const std::int32_t* cu, std::int32_t b, std::int32_t total,
                                                  std::int32_t longest) {
        const std::int32_t begin = min(max(__ldg(cu + b), 0), total);
        const std::int32_t end = min(max(__ldg(cu + b + 1), begin), total);
        return {begin, min(end - begin, longest)};
    }
#endif
};

inline Sequences make_sequences(const Problem& problem) {
    Sequences sequences;
    sequences.batch = static_cast<std::int32_t>(problem.batch);
    sequences.seqlen_q = static_cast<std::int32_t>(problem.seqlen_q);
    sequences.seqlen_k = static_cast<std::int32_t>(problem.seqlen_k);
    if (problem.cu_seqlens_k == nullptr) return sequences;
    sequences.total_q = static_cast<std::int32_t>(problem.total_q);
    sequences.total_k = static_cast<std::int32_t>(problem.total_k);
    sequences.cu_seqlens_q = problem.cu_seqlens_q;
    sequences.cu_seqlens_k = problem.cu_seqlens_k;
    return sequences;
}

/// An offset for the pieces of sequence b when each sequence is cut into pieces of `size` tokens, from the number of
/// tokens before it alone: floor(tokens / size) + b. Pieces of different sequences never meet, and all of them lie
/// below padded_pieces(). This spares every kernel a prefix sum over the batch.
MOBALAB_HOST_DEVICE std::int64_t piece_base(std::int64_t tokens_before, std::int64_t b, std::int64_t size) {
    return tokens_before / size + b;
}
inline std::int64_t padded_pieces(std::int64_t tokens, std::int64_t batch, std::int64_t size) {
    return tokens / size + batch;
}

}  // namespace mobalab::kernels::cuda
