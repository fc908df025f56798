#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/lists/lists.h"
#include "kernels/cuda/tile/rows.h"
#include "kernels/kernels.h"

// The two memory-bound ends of attention_backward: D = d_out . out of every query before block_backward, and the sum of
// its partial dQ rows afterwards; 16 bytes a thread.
namespace mobalab::kernels::cuda {

/// The queries of `count` windows of a chunk (lists.h) from `first` on.
struct WindowQueries {
    ListChunk chunk;
    std::int32_t first = 0, count = 0;
    std::int32_t token_windows = 1;      ///< of a chunk
    std::int32_t heads = 1, tokens = 0;  ///< of a window

    struct Query {
        std::int32_t head = 0, token = 0;  ///< absolute
        bool exists = false;               ///< false in the part of a window that lies outside the chunk
    };
    /// Places in all windows, those that hold no query included: fewer than 2^32, as their rows have to fit in memory.
    MOBALAB_HOST_DEVICE std::uint32_t places() const {
        return static_cast<std::uint32_t>(count * heads) * static_cast<std::uint32_t>(tokens);
    }
    MOBALAB_HOST_DEVICE Query at(std::uint32_t place) const {
        if (place >= places()) return {};
        const auto width = static_cast<std::uint32_t>(tokens);
        const auto row = static_cast<std::int32_t>(place / width), token = static_cast<std::int32_t>(place % width);
        const std::int32_t window = first + row / heads;
        Query query;
        query.head = chunk.head_begin + window / token_windows * heads + row % heads;
        query.token = chunk.token_begin + window % token_windows * tokens + token;
        query.exists =
            query.head < chunk.head_begin + chunk.head_count && query.token < chunk.token_begin + chunk.token_count;
        return query;
    }
};

struct LseDotArgs {
    Sequences sequences;
    RowTensor out, d_out;
    RowTensor own;  ///< of CombineGradientArgs: zeros in rows before every key, which have an infinite lse: nobody else
                    ///< visits them; not causal, in all rows
    bool causal = true;
    const float* lse = nullptr;  ///< [heads_q, tokens_q]
    float2* lse_dot = nullptr;   ///< [heads_q, tokens_q], the given heads of it: log2(e) lse, d_out . out
    std::int64_t tokens_q = 0;
    std::int32_t head_begin = 0, head_count = 0;
    std::int32_t value_dim = 0, columns = 0;  ///< of out and d_out; partial_columns() of dq

    std::int32_t widest() const { return value_dim > columns ? value_dim : columns; }

    std::int64_t rows() const { return tokens_q * head_count; }
};
Status launch_lse_dot(DataType dtype, const LseDotArgs& args, cudaStream_t stream);

/// Rounds rows of fp32 sums to dk or dv.
struct RoundRowsArgs {
    RowTensor sums, out;
    std::int64_t batch = 1, tokens = 0, heads = 1;  ///< tokens: of an entry of the batch
    std::int32_t head_dim = 0;
};
Status launch_round_rows(DataType dtype, const RoundRowsArgs& args, cudaStream_t stream);

/// Adds the listed partials of every query to the own one, in fp32 and in the order of the keys, and brings the sum
/// into the order of the columns, in its row of dq.
struct CombineGradientArgs {
    Sequences sequences;
    WindowQueries queries;
    RowTensor own;  ///< partials of the own block, as BlockBackwardArgs::dq
    RowTensor dq;
    const char* partials = nullptr;           ///< of row 0 of the chunk: [rows, columns]
    const std::int32_t* positions = nullptr;  ///< ListView::positions
    std::int32_t head_dim = 0, columns = 0;   ///< partial_columns()
    std::int32_t slots = 0;                   ///< Problem::routed()

    std::int32_t widest() const { return columns; }
    std::int64_t rows() const { return queries.places(); }
};
Status launch_combine_gradient(DataType dtype, const CombineGradientArgs& args, cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
