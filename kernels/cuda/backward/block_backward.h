#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/backward/gradient_rows.h"
#include "kernels/cuda/lists/lists.h"
#include "kernels/cuda/tile/block_divisor.h"
#include "kernels/kernels.h"

// The heavy half of attention_backward, key-major like block_forward: a thread block holds the keys and values of one
// *run* in shared memory, streams the queries that attend to it past them, and keeps the gradients of the run's keys
// and values in fp32 registers. With P = exp(scale q.k - lse), D = d_out . out, and the global lse of every query,
//
//   dS = P (d_out . v - D),  dV = P^T d_out,  dK = scale dS^T Q,  dQ = scale dS K,
//
// so pairs of (query, run) are independent. What leaves the kernel:
//   - dK and dV of a run, complete over all query heads that share the key head; where a run has so many queries that
//     several thread blocks share them, fp32 sums in scratch *slots*, which the last of these blocks adds in a fixed
//     order. Where a pass does not see all queries of a sequence, it adds them to fp32 sums of all passes;
//   - per (query, list) one *partial* dQ row in the dtype of the inputs: that of the own block in the query's row of dq
//     itself, those of list rows in scratch row r. gradient_rows.h adds them. Elements inside a partial row are in
//     the order of block_forward.h's partials. They have 32 columns at a time: where head_dim is no multiple of 32,
//     rows of dq have no place for one, and those of the own block lie in scratch rows of their own.
//
// A list has keys_per_list / RunShape::keys runs, rounded up: the last one may be shorter. They are worked on by
// launches one after the other, of which all but the first add to the partials.
namespace mobalab::kernels::cuda {

inline constexpr std::int64_t widest_split_head = 128;  ///< up to here runs can have 128 keys

/// Keys of a list, at most, and of its only run on the Hopper path where blocks have no more.
inline constexpr std::int32_t narrow_list = 64;

/// Keys of a run where lists have as many or more.
MOBALAB_HOST_DEVICE constexpr std::int32_t keys_per_backward_run(std::int64_t head_dim) {
    return head_dim <= widest_split_head ? 128 : 64;
}
/// What the kernel of a path works on.
struct RunShape {
    std::int64_t shared_list = widest_shared_list;  ///< ListOptions::shared_list
    std::int32_t keys = 128;                        ///< of a run
    std::int32_t units_at_once = 1;                 ///< of a thread block
};
/// Columns of a row in shared memory and in slots: head_dim padded with zeros.
MOBALAB_HOST_DEVICE constexpr std::int32_t padded_head_dim(std::int64_t head_dim) {
    return head_dim <= 64 ? 64 : head_dim <= 128 ? 128 : 256;
}
/// The wider one of keys and values, which chooses the kernels.
inline std::int64_t widest_head_dim(const Problem& problem) {
    return std::max(problem.head_dim, problem.value_dim());
}
/// Columns of a partial dQ row.
MOBALAB_HOST_DEVICE constexpr std::int32_t partial_columns(std::int64_t head_dim) {
    return static_cast<std::int32_t>((head_dim + 31) / 32 * 32);
}
/// fp32 numbers of one slot: dK, then dV, of one run.
MOBALAB_HOST_DEVICE constexpr std::int64_t slot_elements(std::int64_t run_keys, std::int64_t head_dim) {
    return 2 * run_keys * padded_head_dim(head_dim);
}

/// What one thread block works on at a time: consecutive items of one (sequence, key head, list).
struct alignas(16) BackwardUnit {
    std::int32_t first_item = 0;
    std::int32_t item_count = 0;  ///< negative: no more work
    std::int32_t slot = -1;       ///< of its sums; -1: they are complete and go to dk and dv
    std::int32_t split = -1;      ///< the SplitRun it belongs to
};
/// The slots of one run.
struct alignas(16) SplitRun {
    std::int32_t first_slot = 0;
    std::int32_t slots = 0;
    std::int32_t filled = 0;  ///< of its slots; 0 again once they were added
    std::int32_t unused = 0;
};

/// How a chunk of lists is worked on: in passes of `windows_per_pass` of its windows, so that the lists of many windows
/// are built at once while the partials of few are in scratch.
struct UnitPlan {
    std::int32_t windows_per_pass = 1, passes = 1;  ///< of a chunk
    std::int32_t runs = 1;                          ///< of a list: launches of a pass
    std::int32_t run_keys = 128;
    std::int32_t tiles_per_unit = 0;  ///< runs of up to 1.5 times as many tiles stay whole
    std::int32_t slots_max = 0;       ///< of a pass
    std::int32_t units_max = 0;       ///< likewise
    bool adds_to_keys = false;        ///< BlockBackwardArgs::adds_to_keys: every unit has a slot, as only these leave
                                      ///< registers for it

    MOBALAB_HOST_DEVICE std::int32_t counts() const { return 1 + runs; }  ///< of a pass
};
/// The units of one pass in device memory.
struct UnitView {
    BackwardUnit* units = nullptr;   ///< [units_max], the longest first, more or less
    SplitRun* splits = nullptr;      ///< [slots_max]
    std::int32_t* counts = nullptr;  ///< number of units, [runs]: next one to draw

    MOBALAB_HOST_DEVICE UnitView pass(const UnitPlan& plan, std::int32_t pass) const {
        return {units + static_cast<std::int64_t>(pass) * plan.units_max,
                splits + static_cast<std::int64_t>(pass) * plan.slots_max, counts + plan.counts() * pass};
    }
};

/// lists: with windows of whole sequences and whole groups of query heads that share a key head; any windows with
/// adds_to_keys, but one a pass.
UnitPlan make_unit_plan(const ListPlan& lists, std::int32_t windows_per_pass, const RunShape& shape,
                        bool adds_to_keys = false);
/// Enqueues the units of all passes of one chunk; `units` is the view of pass 0.
Status launch_units(const ListPlan& plan, const UnitPlan& unit_plan, const ListView& lists, const UnitView& units,
                    cudaStream_t stream);

struct BlockBackwardArgs {
    RowTensor q, k, v, d_out, dk, dv;
    RowTensor dq;                     ///< of partials of the own block: the output itself or scratch
    const float2* lse_dot = nullptr;  ///< [heads_q, tokens_q], those of the pass: log2(e) lse, d_out . out
    std::int64_t tokens_q = 0;
    std::int32_t head_dim = 0;   ///< of q, k and their gradients
    std::int32_t value_dim = 0;  ///< of d_out and dv
    std::int32_t columns = 0;    ///< partial_columns() of head_dim
    std::int32_t query_heads_per_key_head = 1;
    std::int32_t block_size = 128;
    std::int32_t keys_per_list = 128;
    std::int32_t run = 0;       ///< of every list
    std::int32_t run_keys = 0;  ///< of that run, at most
    BlockDivisor block;         ///< by block_size
    float scale = 0.0f;         ///< of the softmax
    float scale_log2 = 0.0f;    ///< the same * log2(e)
    float unscale = 0.0f;       ///< 1 / scale
    bool adds_to_keys = false;  ///< dk and dv are fp32 sums, which every pass adds to
    Sequences sequences;
    bool causal = true;  ///< or what is listed may end with the sequence
    ListView lists;
    UnitView units;
    char* partials = nullptr;  ///< of row 0 of the chunk: [rows, columns] in the dtype of the inputs
    float* slots = nullptr;    ///< [slots_max, slot_elements()]
};

/// Enqueues one run of every list of a pass. head_dim, value_dim: multiples of 8 up to 256; T is __nv_bfloat16 or
/// __half; the maps are make_tensor_map()'s with boxes of RunShape::keys tokens, of the wider head_dim.
template <typename T>
Status launch_block_backward(int multiprocessors, const BlockBackwardArgs& args, const CUtensorMap& k_map,
                             const CUtensorMap& v_map, cudaStream_t stream);
}  // namespace mobalab::kernels::cuda
