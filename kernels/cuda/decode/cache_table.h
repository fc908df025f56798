#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/tile/block_divisor.h"
#include "kernels/cuda/tile/sequences.h"
#include "kernels/decode.h"

namespace mobalab::kernels::cuda {

/// Where the keys of each sequence stand, as kernels take it by value. The arrays are device memory and nobody has
/// looked at what they hold: lengths come out in [0, most], places inside the tensors, whatever it is.
struct CacheTable {
    const std::int32_t* lengths = nullptr;
    const std::int32_t* pages = nullptr;  ///< [batch, columns]; null: not paged
    std::int32_t most = 0;                ///< keys of a sequence; 0 where the cache has no page to hold any
    std::int32_t columns = 0, last_page = 0, page_size = 1;
    BlockDivisor per_page;

#ifdef __CUDACC__
    __device__ __forceinline__ std::int32_t length(std::int32_t b) const {
        return min(max(lengths[b], 0), most);
    }
    /// Of the key at a position below the length.
    __device__ __forceinline__ Place place(std::int32_t b, std::int32_t position) const {
        if (pages == nullptr) return {b, position};
        const std::int32_t column = per_page.divide(position);
        const std::int32_t page = pages[static_cast<std::int64_t>(b) * columns + column];
        return {min(max(page, 0), last_page), position - column * page_size};
    }
#endif
};

inline CacheTable make_cache_table(const Problem& problem, const Cache& cache) {
    CacheTable table;
    table.lengths = cache.lengths;
    table.most = static_cast<std::int32_t>(problem.seqlen_k);
    if (cache.block_table == nullptr) return table;
    constexpr std::int64_t largest_page = std::int64_t{1} << 30;  // of positions below it: larger pages divide alike
    table.pages = cache.block_table;
    table.columns = static_cast<std::int32_t>(cache.pages_per_sequence(problem.seqlen_k));
    table.last_page = static_cast<std::int32_t>(cache.pages - 1);
    table.page_size = static_cast<std::int32_t>(cache.page_size);
    table.per_page = BlockDivisor(std::min(cache.page_size, largest_page));
    if (cache.pages == 0) table.most = 0;
    return table;
}

/// One row of queries of a decode problem, by its number in [heads_q, batch * seqlen_q].
struct DecodeRow {
    std::int32_t head = 0, b = 0, row = 0;
    std::int32_t position = 0;  ///< among the keys; negative before every one
};

struct DecodeRows {
    std::int32_t batch = 1, seqlen_q = 1, heads_q = 1;

    std::int64_t count() const { return static_cast<std::int64_t>(batch) * seqlen_q * heads_q; }

#ifdef __CUDACC__
    __device__ __forceinline__ DecodeRow at(std::int32_t number, const CacheTable& cache) const {
        const std::int32_t tokens = batch * seqlen_q;
        const std::int32_t head = number / tokens, token = number - head * tokens;
        const std::int32_t b = token / seqlen_q, row = token - b * seqlen_q;
        return {head, b, row, cache.length(b) - seqlen_q + row};
    }
#endif
};

inline DecodeRows make_decode_rows(const Problem& problem) {
    return {static_cast<std::int32_t>(problem.batch), static_cast<std::int32_t>(problem.seqlen_q),
            static_cast<std::int32_t>(problem.heads_q)};
}

}  // namespace mobalab::kernels::cuda
