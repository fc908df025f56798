#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/lists.h"
#include "kernels/kernels.h"

// Attention of queries with one run of 128 keys at a time: the heavy half of attention_forward. Key-major: a thread
// block holds the keys and values of one run in shared memory and streams the queries that selected it past them.
// Softmax is exact inside the run; what is left per (query, run) is one *partial*: an output row normalised inside the
// run, in the dtype of the inputs, and the base-2 logarithm of its sum of exponentials in fp32. combine.h joins them.
//
// Where the partials of a query lie: the one of the first run of its own block, which every query has, in its row of
// the output tensors themselves; the others in scratch rows (numbers in [0, PartialLayout::rows)). Scratch is a ring of
// slots; window w of the chunk (lists.h) has slot w % slots while it is in work: run u of list row r is row u *
// list_rows() + r + row_shift(w), run u > 0 of the own block of query token t under head h is own_row(w, h, u, t). A
// query has an own partial for every run of its own block that begins at or before it.
//
// Inside a partial row the elements are in the order the matrix units leave them in registers, so that a thread writes
// 16 bytes at once: 16-byte piece 4 * m + t (m < head_dim / 32, t < 4) holds columns 32 * m + 8 * i + 2 * t + {0, 1},
// i = 0..3.
namespace mobalab::kernels::cuda {

inline constexpr int keys_per_run = 128;
inline constexpr int rows_per_tile = list_tile_rows;
inline constexpr int max_tiles_per_item = 16;  ///< bound on ListOptions::tiles_per_item
inline constexpr int max_window_slots = 8;     ///< bound on PartialLayout::slots

/// Where the partials of the windows in work lie.
struct PartialLayout {
    void* out = nullptr;           ///< [rows, head_dim] in the dtype of the inputs
    float* lse = nullptr;          ///< [rows], log2 of the sum of exponentials
    std::int64_t window_rows = 0;  ///< ListPlan::rows_per_window
    std::int32_t slots = 1;        ///< windows in work at a time, at most max_window_slots
    std::int32_t tokens = 0;       ///< ListPlan::tokens_per_window
    std::int32_t heads = 1;        ///< ListPlan::heads_per_window
    std::int32_t runs = 1;         ///< runs per list: max(1, block_size / 128)

    MOBALAB_HOST_DEVICE std::int64_t list_rows() const { return slots * window_rows; }
    MOBALAB_HOST_DEVICE std::int64_t rows() const {
        return runs * list_rows() + static_cast<std::int64_t>(slots) * (runs - 1) * heads * tokens;
    }
    /// From list row numbers, which count the windows of a chunk, to those of the ring.
    MOBALAB_HOST_DEVICE std::int64_t row_shift(std::int32_t window) const {
        return (window % slots - window) * window_rows;
    }
    /// Of run > 0; head and token are counted from the beginning of the window.
    MOBALAB_HOST_DEVICE std::int64_t own_row(std::int32_t window, std::int32_t head, std::int32_t run,
                                             std::int32_t token) const {
        const std::int64_t head_of_ring = static_cast<std::int64_t>(window % slots) * heads + head;
        return runs * list_rows() + (head_of_ring * (runs - 1) + run - 1) * tokens + token;
    }
};

/// How one launch of the fused kernel works through the windows of a chunk. Thread blocks draw the units of
/// block_forward window by window. When those of a window are all done, every warp of every thread block combines its
/// share of the window's queries, between two tiles of later windows. Units of a window wait until everybody has
/// combined the window whose slot they take over.
struct WindowSchedule {
    std::int32_t windows = 0;
    std::int32_t token_windows = 1;     ///< ListPlan::token_windows
    std::int32_t* next_unit = nullptr;  ///< units are drawn from it; this and the counters below are 0 before a launch
    std::int32_t* forwarded = nullptr;  ///< [windows]: units of block_forward that are done
    std::int32_t* combined = nullptr;   ///< [windows]: thread blocks that have combined their share
};

/// The tensors attention_forward writes.
struct OutputTensors {
    void* out = nullptr;
    std::int64_t stride_token = 0, stride_head = 0;  ///< bytes
    float* lse = nullptr;                            ///< [heads_q, tokens_q]
    std::int64_t tokens_q = 0;

    MOBALAB_HOST_DEVICE char* row(std::int64_t head, std::int64_t token) const {
        return static_cast<char*>(out) + token * stride_token + head * stride_head;
    }
    MOBALAB_HOST_DEVICE float* lse_of(std::int64_t head, std::int64_t token) const {
        return lse + head * tokens_q + token;
    }
};

/// What the attention kernels read.
struct BlockForwardArgs {
    const void* q = nullptr;
    const void* k = nullptr;
    const void* v = nullptr;
    std::int64_t q_stride_token = 0, q_stride_head = 0;  ///< bytes
    std::int64_t k_stride_token = 0, k_stride_head = 0;
    std::int64_t v_stride_token = 0, v_stride_head = 0;
    std::int32_t query_heads_per_key_head = 1;
    std::int32_t block_size = 128;
    std::int32_t keys_per_list = 128;
    std::int32_t selected = 0;       ///< topk - 1
    std::int32_t partial_bytes = 0;  ///< of one partial row: head_dim * 2
    float scale_log2 = 0;            ///< head_dim^-1/2 * log2(e)
    Sequences sequences;
    ListView lists;
    OutputTensors output;
    PartialLayout partials;
    WindowSchedule schedule;
    bool keys_evict_first = false;  ///< keys and values leave L2 before partials do
};

/// wgmma: enqueues partials and their combination (combine.cuh) for all windows of one chunk; head_dim 32, 64, 96, 128,
/// T is __nv_bfloat16 or __half; the maps are make_tensor_map()'s with boxes of keys_per_run tokens.
/// mma (mma.sync): enqueues the partials of a chunk of one window; any of those head_dims and 256; simpler.
template <typename T>
Status launch_block_forward_wgmma(int head_dim, int multiprocessors, const BlockForwardArgs& args,
                                  const CUtensorMap& k_map, const CUtensorMap& v_map, cudaStream_t stream);
Status launch_block_forward_mma(DataType dtype, int head_dim, int multiprocessors, const BlockForwardArgs& args,
                                cudaStream_t stream);

}  // namespace mobalab::kernels::cuda
