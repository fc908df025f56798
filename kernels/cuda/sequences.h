#pragma once

#include <cstdint>

#include "kernels/kernels.h"

#ifdef __CUDACC__
#define MOBALAB_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define MOBALAB_HOST_DEVICE inline
#endif

namespace mobalab::kernels::cuda {

/// One sequence of a batch: its tokens and how its queries stand against its keys (bottom-right aligned).
struct Sequence {
    std::int32_t q_begin = 0;  ///< first query token
    std::int32_t sq = 0;       ///< queries
    std::int32_t k_begin = 0;  ///< first key token
    std::int32_t sk = 0;       ///< keys

    /// Position of query row 0 among the keys: row r stands at position r + shift().
    MOBALAB_HOST_DEVICE std::int32_t shift() const { return sk - sq; }
};

/// The sequences of a problem, as kernels take them by value. The pointers are device memory or null.
struct Sequences {
    std::int32_t batch = 1;
    std::int32_t seqlen_q = 0;
    std::int32_t seqlen_k = 0;
    const std::int32_t* cu_seqlens_q = nullptr;
    const std::int32_t* cu_seqlens_k = nullptr;

#ifdef __CUDACC__
    __device__ __forceinline__ Sequence at(std::int32_t b) const {
        if (cu_seqlens_q == nullptr) {
            return {b * seqlen_q, seqlen_q, b * seqlen_k, seqlen_k};
        }
        const std::int32_t q0 = __ldg(cu_seqlens_q + b), k0 = __ldg(cu_seqlens_k + b);
        return {q0, __ldg(cu_seqlens_q + b + 1) - q0, k0, __ldg(cu_seqlens_k + b + 1) - k0};
    }
#endif
};

inline Sequences make_sequences(const Problem& problem) {
    return {static_cast<std::int32_t>(problem.batch), static_cast<std::int32_t>(problem.seqlen_q),
            static_cast<std::int32_t>(problem.seqlen_k), problem.cu_seqlens_q, problem.cu_seqlens_k};
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
