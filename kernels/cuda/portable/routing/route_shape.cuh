#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/host/path.h"
#include "kernels/cuda/routing/route_work.cuh"
#include "kernels/cuda/tile/rows.h"

namespace mobalab::kernels::cuda::portable {

/// What the routing kernel is given.
struct RouteParams {
    cuda::RouteParams of_path;  ///< what it shares with the Hopper path
    RowTensor queries;
    const char* summaries[2] = {};   ///< of each part
    std::int64_t column_bytes = 0;   ///< from the summary of a column to the next
    std::int32_t total_columns = 0;  ///< of all sequences
    std::int32_t parts = 0;          ///< 0: scores are hashes
    std::int32_t chunks = 0;         ///< of 16 bytes that a row has: head_dim / 8
    bool bf16 = false;               ///< or else fp16
    bool by_sign = false;            ///< max(q, 0) with the first part, min(q, 0) with the second
};

/// Shapes of one instantiation. HeadDim: elements of a row of summaries in shared memory, 64, 128 or 256; 0: nothing is
/// multiplied. Residents: thread blocks that share the registers of a multiprocessor.
///
/// A tile is the columns that a list takes at once. Its summaries come in pieces of at most 16 KB, so that two buffers
/// and the lists of all warps fit the shared memory of small chips.
template <int HeadDim_, typename TopK_, int Warps_, int Residents_>
struct RouteShape {
    using TopK = TopK_;
    /// A block is one column where it is not divided.
    static constexpr Scoring scoring = Scoring::best_of_group;
    static constexpr int HeadDim = HeadDim_, Warps = Warps_, Residents = Residents_;
    static constexpr int threads = Warps * 32, rows = Warps * route_warp_rows;
    static constexpr int tile_blocks = TopK::tile_blocks, values = tile_blocks / 2;  // of a lane
    static constexpr int steps = HeadDim / 16;
    static constexpr int chunks = HeadDim / 8, row_bytes = HeadDim * 2;
    static constexpr int most_piece_bytes = 16 * 1024, buffers = 2;
    static constexpr int piece_columns = std::min(tile_blocks, most_piece_bytes / std::max(row_bytes, 1));
    static constexpr int piece_bytes = piece_columns * row_bytes, piece_values = piece_columns / 2;
    static constexpr int pieces = tile_blocks / piece_columns;
    static constexpr int shared_bytes = buffers * piece_bytes + Warps * TopK::shared_bytes;
    static_assert(shared_bytes <= portable_shared_memory);
    /// Queries beside the values of a tile and of its survey would be too many registers.
    static constexpr bool queries_stay = HeadDim <= 64 || !TopK::surveys;
};

}  // namespace mobalab::kernels::cuda::portable
