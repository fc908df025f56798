#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/lists/lists.h"
#include "kernels/cuda/tile/rows.h"
#include "kernels/kernels.h"

// Attention of queries with one run of 128 keys (or what is left of a list's) at a time: the heavy half of
// attention_forward. One kernel takes *spans* of 256 keys instead, two runs with one partial for both, and for blocks
// of 16, 32 or 64 keys there are *short runs* of 64: what is said of runs here then holds for these. Key-major: a
// thread block holds the keys and values of one run in shared memory and streams the queries that selected it past
// them. Softmax is exact inside the run; what is left per (query, run) is one *partial*: an output row normalised
// inside the run, in the dtype of the inputs, and the base-2 logarithm of its sum of exponentials in fp32. combine.h
// joins them.
//
// A launch works on some consecutive windows of a chunk (lists.h). Where the partials of a query lie: the one of the
// first run of its own block, which every query has, in its row of the output tensors themselves; the others in scratch
// rows of the launch (numbers in [0, PartialLayout::rows)): run u of list row r is row u * list_rows() + r - first_row,
// run u > 0 of the own block of query token t under head h of window w is own_row(w, h, u, t). A query has an own
// partial for every run of its own block that begins at or before it.
//
// Inside a partial row the elements are in the order the matrix units leave them in registers, so that a thread writes
// 16 bytes at once: 16-byte piece 4 * m + t (m < head_dim / 32, t < 4) holds columns 32 * m + 8 * i + 2 * t + {0, 1},
// i = 0..3.
//
// A head_dim without a kernel of its own is run by the kernel of the next one, its *width* (the wider one where values
// have another head_dim than keys): columns from head_dim on are zeros in shared memory, and partial rows have them
// too. Rows of the output tensors then have no place for a partial: that of the first run of the own block lies in
// scratch as well, with own_row(w, h, 0, t).
namespace mobalab::kernels::cuda {

inline constexpr int keys_per_run = 128;
inline constexpr int keys_per_span = 256;
inline constexpr int keys_per_short_run = 64;
inline constexpr int rows_per_tile = list_tile_rows;
inline constexpr int max_tiles_per_item = 16;  ///< bound on ListOptions::tiles_per_item

/// Columns that the kernels of a head_dim work on; of a problem: those of the wider one of keys and values.
MOBALAB_HOST_DEVICE constexpr std::int32_t forward_width(std::int64_t head_dim) {
    return head_dim <= 32 ? 32 : head_dim <= 64 ? 64 : head_dim <= 96 ? 96 : head_dim <= 128 ? 128 : 256;
}

inline std::int32_t forward_width(const Problem& problem) {
    return forward_width(std::max(problem.head_dim, problem.value_dim()));
}

/// Where the partials of a launch lie.
struct PartialLayout {
    void* out = nullptr;           ///< [rows, width] in the dtype of the inputs
    float* lse = nullptr;          ///< [rows], log2 of the sum of exponentials
    std::int64_t window_rows = 0;  ///< ListPlan::rows_per_window
    std::int32_t windows = 1;      ///< of a launch
    std::int32_t tokens = 0;       ///< ListPlan::tokens_per_window
    std::int32_t heads = 1;        ///< ListPlan::heads_per_window
    std::int32_t runs = 1;         ///< runs per list: the last one may have fewer keys
    std::int32_t first_own = 1;    ///< run of the own block whose partials are the first in scratch; 0 or 1
    std::int32_t run_shift = 7;    ///< log2 of the keys of a run: 128; 256 for spans, 64 for short runs and where the
                                   ///< portable kernel takes so many

    MOBALAB_HOST_DEVICE std::int64_t list_rows() const { return windows * window_rows; }
    MOBALAB_HOST_DEVICE std::int64_t rows() const {
        return runs * list_rows() + static_cast<std::int64_t>(windows) * (runs - first_own) * heads * tokens;
    }
    /// Of run >= first_own; the window is counted from the first of the launch, head and token from the beginning of
    /// the window.
    MOBALAB_HOST_DEVICE std::int64_t own_row(std::int32_t window, std::int32_t head, std::int32_t run,
                                             std::int32_t token) const {
        const std::int64_t head_of_launch = static_cast<std::int64_t>(window) * heads + head;
        return runs * list_rows() + (head_of_launch * (runs - first_own) + run - first_own) * tokens + token;
    }
};

/// The windows of a launch.
struct WindowRange {
    std::int32_t first = 0, count = 1;  ///< in the chunk
    std::int32_t token_windows = 1;     ///< ListPlan::token_windows
};

/// The tensors attention_forward writes.
struct OutputTensors {
    RowTensor out;
    float* lse = nullptr;  ///< [heads_q, tokens_q]
    std::int64_t tokens_q = 0;

    MOBALAB_HOST_DEVICE float* lse_of(std::int64_t head, std::int64_t token) const {
        return lse + head * tokens_q + token;
    }
};

/// What block_forward and combine read.
struct BlockForwardArgs {
    RowTensor q, k, v;
    std::int32_t query_heads_per_key_head = 1;
    std::int32_t block_size = 128;
    std::int32_t keys_per_list = 128;
    std::int32_t slots = 0;          ///< Problem::routed()
    bool causal = true;              ///< or there are no own blocks, and what is listed may end with the sequence
    std::int32_t partial_bytes = 0;  ///< of one partial row: width * 2
    std::int32_t pieces = 0;         ///< of 16 bytes of a row of q and k: head_dim / 8
    std::int32_t value_pieces = 0;   ///< of v and the output
    float scale_log2 = 0;            ///< softmax scale * log2(e)
    Sequences sequences;
    ListView lists;
    WindowRange windows;
    OutputTensors output;
    PartialLayout partials;
    std::int32_t* next_unit = nullptr;  ///< 0 before the launch; thread blocks draw their work from it
};

/// Whether the kernels that know head_dim and the place of every block in a run, a whole one, are no use.
MOBALAB_HOST_DEVICE bool has_shapes_of_any(const BlockForwardArgs& args) {
    return args.pieces * 16 != args.partial_bytes || args.value_pieces != args.pieces ||
           args.keys_per_list % (1 << args.partials.run_shift) != 0 || !args.causal;
}

/// Keys that a tensor copy of a run brings: where lists are shorter than a run, theirs.
MOBALAB_HOST_DEVICE constexpr std::int32_t forward_box_keys(std::int64_t keys_per_list) {
    return keys_per_list < keys_per_run ? static_cast<std::int32_t>(keys_per_list) : keys_per_run;
}

/// First head and first token of a window of the chunk, absolute.
struct WindowOrigin {
    std::int32_t head = 0, token = 0;
};
MOBALAB_HOST_DEVICE WindowOrigin window_origin(const BlockForwardArgs& args, std::int32_t window) {
    const std::int32_t head_window = window / args.windows.token_windows;
    const std::int32_t token_window = window % args.windows.token_windows;
    return {args.lists.chunk.head_begin + head_window * args.partials.heads,
            args.lists.chunk.token_begin + token_window * args.partials.tokens};
}

/// Enqueues the partials of args.windows. wgmma: width 32, 64, 96, 128, T is __nv_bfloat16 or __half; the maps are
/// make_tensor_map()'s with boxes of forward_box_keys() tokens. spans: one partial for 256 keys, width 64 and 128,
/// lists of more than a run, whatever shapes they are of. mma (mma.sync): any width of wgmma and 256; simpler, and the
/// other one's judge; below 256 only where !has_shapes_of_any().
template <typename T>
Status launch_block_forward_wgmma(int width, int multiprocessors, const BlockForwardArgs& args,
                                  const CUtensorMap& k_map, const CUtensorMap& v_map, cudaStream_t stream);
template <typename T>
Status launch_block_forward_spans(int width, int multiprocessors, const BlockForwardArgs& args,
                                  const CUtensorMap& k_map, const CUtensorMap& v_map, cudaStream_t stream);
Status launch_block_forward_mma(DataType dtype, int width, int multiprocessors, const BlockForwardArgs& args,
                                cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
