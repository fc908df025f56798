#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/forward/block_forward.h"
#include "kernels/cuda/tile/block_divisor.h"
#include "kernels/cuda/tile/candidates.h"
#include "kernels/cuda/tile/rows.h"
#include "kernels/cuda/tile/sequences.h"
#include "kernels/kernels.h"

// Query-major attention: a thread block has 128 query rows of a head and goes through the keys before them, run by run
// (128 keys), with an online softmax in which the selection is a mask. What no row of the thread block selected is not
// read. There are no lists and no partial results: dense attention's arithmetic is the price, so this is for sequences
// of few blocks (forward_choice.h).
namespace mobalab::kernels::cuda {

inline constexpr int masked_rows = 128;  ///< of a thread block

/// How the selected blocks of a thread block's rows lie in shared memory: of every row a byte for each *piece*, which
/// is a block of at least a run (all bits or none), or a run of smaller blocks (bit c: keys [16 c, 16 c + 16) of it).
struct MaskLayout {
    std::int32_t block_size = 128;
    std::int32_t runs_per_piece = 1;
    BlockDivisor piece;       ///< division by runs_per_piece
    std::int32_t pieces = 0;  ///< of the longest sequence
    std::int32_t runs = 0;    ///< likewise

    MOBALAB_HOST_DEVICE std::int32_t piece_of_run(std::int32_t run) const { return piece.divide(run); }
    MOBALAB_HOST_DEVICE std::int64_t words() const { return std::int64_t{pieces} * (masked_rows / 4); }
    /// Of the mask, what it says of each piece, and a list of runs.
    MOBALAB_HOST_DEVICE std::int64_t bytes() const { return (words() + pieces + runs) * 4; }
};

/// block_size: 16, 32, 64 or a multiple of 128.
inline MaskLayout make_mask_layout(const Problem& problem) {
    MaskLayout layout;
    layout.block_size = static_cast<std::int32_t>(problem.block_size);
    layout.runs_per_piece = layout.block_size > keys_per_run ? layout.block_size / keys_per_run : 1;
    layout.piece = BlockDivisor(layout.runs_per_piece);
    layout.runs = static_cast<std::int32_t>((problem.seqlen_k + keys_per_run - 1) / keys_per_run);
    layout.pieces = (layout.runs + layout.runs_per_piece - 1) / layout.runs_per_piece;
    return layout;
}

/// Of masked_rows, of the longest sequence.
inline std::int64_t row_tiles(const Problem& problem) {
    return (problem.seqlen_q + masked_rows - 1) / masked_rows;
}
/// Of a launch: each sequence and head has as many as the longest sequence needs.
inline std::int64_t masked_thread_blocks(const Problem& problem) {
    return row_tiles(problem) * problem.heads_q * problem.batch;
}

struct MaskedForwardArgs {
    OutputTensors output;
    const std::int32_t* selection = nullptr;  ///< [heads_q, tokens_q, slots]
    Sequences sequences;                      ///< checked_sequences()
    Candidates candidates;
    BlockDivisor block;  ///< division by the block size
    BlockDivisor slot;   ///< division by the number of slots
    MaskLayout mask;
    std::int32_t heads_q = 1;
    std::int32_t query_heads_per_key_head = 1;
    std::int32_t slots = 0;         ///< Problem::routed()
    std::int32_t row_tiles = 0;     ///< row_tiles() of the problem
    std::int32_t value_pieces = 0;  ///< of 16 bytes of a row of the output: head_dim_v / 8
    bool causal = true;
    float scale_log2 = 0;  ///< softmax scale * log2(e)
};

/// Columns that the kernel for a problem works on; see forward_width().
inline std::int32_t masked_width(const Problem& problem) {
    return std::max(problem.head_dim, problem.value_dim()) <= 64 ? 64 : 128;
}
/// Runs of keys, and of values, that are in shared memory at a time.
MOBALAB_HOST_DEVICE constexpr int masked_stages(int width) {
    return width <= 64 ? 4 : 2;
}
/// Shared memory of a thread block: tiles of queries, keys and values, barriers, the mask and its list, and what it
/// takes to begin at a multiple of 1024.
MOBALAB_HOST_DEVICE constexpr std::int64_t masked_tile_bytes(int width) {
    return (1 + 2 * masked_stages(width)) * std::int64_t{masked_rows} * width * 2;
}
inline constexpr std::int64_t masked_barrier_bytes = 1024;
inline std::int64_t masked_forward_bytes(const MaskLayout& mask, int width) {
    return masked_tile_bytes(width) + masked_barrier_bytes + mask.bytes() + 1024;
}

/// Of enqueue_masked_forward(): a checked copy of cu_seqlens, where there are any.
std::size_t masked_forward_workspace(const Problem& problem);

/// kernels.h's attention_forward of a problem that queries_can() take.
Status enqueue_masked_forward(const Problem& problem, ConstTensor q, ConstTensor k, ConstTensor v,
                              const std::int32_t* selection, Tensor out, float* lse, void* workspace,
                              cudaStream_t stream);

/// Its kernel. width: 64 or 128; the maps are make_tensor_map()'s with boxes of 128 tokens.
template <typename T>
Status launch_masked_forward(int width, const MaskedForwardArgs& args, const CUtensorMap& q_map,
                             const CUtensorMap& k_map, const CUtensorMap& v_map, cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
