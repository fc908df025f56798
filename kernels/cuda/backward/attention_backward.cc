#include "kernels/cuda/backward/attention_backward.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "kernels/cuda/backward/block_backward.h"
#include "kernels/cuda/backward/gradient_rows.h"
#include "kernels/cuda/host/fill.h"
#include "kernels/cuda/host/limits.h"
#include "kernels/cuda/host/status.h"
#include "kernels/cuda/host/workspace.h"
#include "kernels/cuda/lists/checked_sequences.h"
#include "kernels/cuda/lists/lists.h"

namespace mobalab::kernels::cuda {
namespace {

constexpr std::int64_t element_bytes = 2, sum_bytes = sizeof(float);
/// Scratch per byte of q: together with the outputs half of what the official kernel needs at 64K.
struct ScratchShare {
    double partials, lists;
};
constexpr ScratchShare wide_share = {0.5, 1.0 / 16};
// Twice as many lists: room for their padding and tables, so that passes and chunks have as many heads.
constexpr ScratchShare narrow_share = {0.52, 1.0 / 14};
// Of partials: short sequences take more, so that a pass has units enough to balance.
constexpr double partials_of_short = 2.4, least_partial_bytes = 130e6, most_partial_bytes_of_short = 240e6;
constexpr double least_list_bytes = 24e6;
constexpr std::int64_t least_window = 2048;                 // query tokens
constexpr std::int64_t everything = std::int64_t{1} << 40;  // rows: no cap
constexpr std::int32_t most_segments = 128;                 // of a sequence
constexpr std::int32_t items_per_unit = 8;                  // so that units end near their planned size
// Of rows with more slots than lists sort in registers, where passes over whole sequences would take more than this.
constexpr double most_partial_bytes_of_many_slots = 1e9;
constexpr std::int64_t most_list_rows_of_many_slots = std::int64_t{1} << 27;
constexpr std::int64_t shortest_window_of_many_slots = 256;

/// A scan over the segments of a list is a chain of loads. With few heads in a chunk there are many segments a
/// sequence, and thread blocks enough with fewer.
void widen_segments(ListPlan& plan) {
    while (plan.segments_max > most_segments) {
        plan.segment_rows *= 2;
        plan.segments_max = (plan.segments_max + 1) / 2;
    }
    plan.segments_per_head =
        static_cast<std::int32_t>(padded_pieces(plan.tokens_per_chunk, plan.pieces, plan.segment_rows));
}

struct Plan {
    ListPlan lists;
    UnitPlan units;

    std::int64_t partial_rows() const { return lists.rows_per_window * units.windows_per_pass; }  ///< of a pass
    WindowQueries queries(std::int32_t chunk, std::int32_t pass) const {
        WindowQueries queries;
        queries.chunk = lists.chunk(chunk);
        queries.heads = lists.heads_per_window;
        queries.tokens = lists.tokens_per_window;
        queries.token_windows = lists.token_windows;
        queries.first = pass * units.windows_per_pass;
        const std::int32_t windows = queries.chunk.head_count / lists.heads_per_window * lists.token_windows;
        queries.count = std::clamp(windows - queries.first, 0, units.windows_per_pass);
        return queries;
    }
};

/// Query tokens of a window: whole sequences, so that dk and dv are complete when a pass is.
std::int64_t choose_window(const Problem& problem) {
    if (problem.cu_seqlens_q != nullptr) return problem.tokens_q();
    return (least_window + problem.seqlen_q - 1) / problem.seqlen_q * problem.seqlen_q;
}

/// Bytes of the partials of one query token: of the heads of a key head.
double partial_bytes_of_token(const Problem& problem) {
    return static_cast<double>(problem.heads_q / problem.heads_k * problem.routed() *
                               partial_columns(problem.head_dim)) *
           element_bytes;
}

/// Whether a pass sees less than whole sequences, so that dk and dv are sums over passes.
bool adds_to_keys(const Problem& problem) {
    return problem.routed() > most_sorted_slots &&
           partial_bytes_of_token(problem) * static_cast<double>(choose_window(problem)) >
               most_partial_bytes_of_many_slots;
}

/// Of adds_to_keys(): windows that the memory asks for, one a pass.
Plan make_plan_of_parts(const Problem& problem, const RunShape& shape) {
    const std::int64_t lists = problem.seqlen_k / keys_of_list(problem.block_size, shape.shared_list) + 1;
    const std::int64_t least =
        std::max(shortest_window_of_many_slots, lists * list_tile_rows / problem.routed());  // more than padding
    ListOptions options;
    options.shared_list = shape.shared_list;
    options.max_rows = most_list_rows_of_many_slots;
    options.window =
        std::max(least, static_cast<std::int64_t>(most_partial_bytes_of_many_slots / partial_bytes_of_token(problem)));
    Plan plan;
    plan.lists = make_list_plan(problem, options);
    const UnitPlan coarse = make_unit_plan(plan.lists, 1, shape, true);
    options.tiles_per_item = std::max(1, coarse.tiles_per_unit / items_per_unit);
    plan.lists = make_list_plan(problem, options);
    plan.units = make_unit_plan(plan.lists, 1, shape, true);
    return plan;
}

Plan make_plan(const Problem& problem, const RunShape& shape) {
    if (adds_to_keys(problem)) return make_plan_of_parts(problem, shape);
    const std::int64_t group = problem.heads_q / problem.heads_k;
    const double query_bytes = static_cast<double>(problem.tokens_q() * problem.heads_q * problem.head_dim) * 2.0;
    const double row_bytes = static_cast<double>(partial_columns(problem.head_dim)) * 2.0;
    ListOptions options;
    options.shared_list = shape.shared_list;
    options.window = choose_window(problem);
    options.max_rows = everything;
    const ListPlan of_all = make_list_plan(problem, options);
    const std::int64_t group_rows = of_all.rows_per_head * of_all.token_windows * group;
    options.max_rows = group_rows;
    const ListPlan of_group = make_list_plan(problem, options);

    const ScratchShare share = shape.shared_list < widest_shared_list ? narrow_share : wide_share;
    const double of_short =
        std::clamp(partials_of_short * query_bytes, least_partial_bytes, most_partial_bytes_of_short);
    const double partial_cap = std::max(share.partials * query_bytes, of_short);
    const double window_bytes = static_cast<double>(std::max<std::int64_t>(of_group.rows_per_window, 1)) * row_bytes;
    const std::int64_t windows = std::max<std::int64_t>(static_cast<std::int64_t>(partial_cap / window_bytes), 1);
    const double list_cap = std::max(share.lists * query_bytes, least_list_bytes);
    const std::int64_t groups = std::max<std::int64_t>(
        static_cast<std::int64_t>(list_cap / static_cast<double>(list_workspace_size(of_group))), 1);
    options.max_rows = groups * group_rows;

    Plan plan;
    plan.lists = make_list_plan(problem, options);
    const std::int64_t passes = (plan.lists.windows() + windows - 1) / windows;
    const auto windows_per_pass = static_cast<std::int32_t>((plan.lists.windows() + passes - 1) / passes);
    const UnitPlan coarse = make_unit_plan(plan.lists, windows_per_pass, shape);
    options.tiles_per_item = std::max(1, coarse.tiles_per_unit / items_per_unit);
    plan.lists = make_list_plan(problem, options);
    widen_segments(plan.lists);
    plan.units = make_unit_plan(plan.lists, windows_per_pass, shape);
    return plan;
}

struct BackwardWorkspace {
    RowTensor own;  ///< partials of the own block: dq, unless its rows are too short
    Plan plan;
    void* boundaries = nullptr;  ///< of checked_sequences()
    float2* lse_dot = nullptr;   ///< of the heads of a chunk
    UnitView units;
    void* lists = nullptr;
    float* slots = nullptr;
    char* partials = nullptr;    ///< of a pass
    RowTensor dk_sums, dv_sums;  ///< of adds_to_keys(): fp32, [tokens_k, heads_k, head_dim or value_dim()]
    std::size_t bytes = 0;

    BackwardWorkspace(const Problem& problem, const RunShape& shape, const Tensor& dq, void* workspace)
        : own(rows_of(dq)), plan(make_plan(problem, shape)) {
        WorkspaceCarver carver(workspace);
        boundaries = carver.take_bytes(checked_sequences_size(problem));
        lse_dot = carver.take<float2>(plan.lists.heads_per_chunk * problem.tokens_q());
        units.counts = carver.take<std::int32_t>(static_cast<std::int64_t>(plan.units.counts()) * plan.units.passes);
        units.units = carver.take<BackwardUnit>(static_cast<std::int64_t>(plan.units.passes) * plan.units.units_max);
        units.splits = carver.take<SplitRun>(static_cast<std::int64_t>(plan.units.passes) * plan.units.slots_max);
        lists = carver.take_bytes(list_workspace_size(plan.lists));
        slots = carver.take<float>(plan.units.slots_max * slot_elements(shape.keys, widest_head_dim(problem)));
        const std::int64_t row_bytes = partial_columns(problem.head_dim) * element_bytes;
        partials = carver.take<char>(plan.partial_rows() * row_bytes);
        if (partial_columns(problem.head_dim) != problem.head_dim) {  // [heads_q, tokens_q, columns]
            own.data = carver.take<char>(problem.heads_q * problem.tokens_q() * row_bytes);
            own.stride = {problem.seqlen_q * row_bytes, row_bytes, problem.tokens_q() * row_bytes};
        }
        if (plan.units.adds_to_keys) take_key_sums(problem, carver);
        bytes = carver.used();
    }

private:
    static RowTensor take_sums(const Problem& problem, std::int64_t head_dim, WorkspaceCarver& carver) {
        const std::int64_t row_bytes = head_dim * sum_bytes, token_bytes = problem.heads_k * row_bytes;
        return {carver.take<char>(problem.tokens_k() * token_bytes),
                {problem.seqlen_k * token_bytes, token_bytes, row_bytes}};
    }
    void take_key_sums(const Problem& problem, WorkspaceCarver& carver) {
        dk_sums = take_sums(problem, problem.head_dim, carver);
        dv_sums = take_sums(problem, problem.value_dim(), carver);
    }
};

/// Kernels count from the first row of a sequence on in 32 bits.
Status check_span(const char* name, std::int64_t stride_token, std::int64_t tokens) {
    constexpr std::int64_t most_bytes = std::int64_t{1} << 36;
    const std::int64_t row_bytes = stride_token * element_bytes;
    if (row_bytes >= 0 && (tokens <= 1 || row_bytes <= most_bytes / tokens)) return {};
    return {StatusCode::invalid_argument, std::string(name) + ".stride_token = " + std::to_string(stride_token) +
                                              " over " + std::to_string(tokens) +
                                              " tokens spans more than 64 GiB; nearest valid choice: " +
                                              std::to_string(most_bytes / tokens / element_bytes / 8 * 8)};
}

Status check_alignment(const Problem& p, const BackwardTensors& t) {
    if (Status s = check_rows_aligned("q", t.q); !s.ok()) return s;
    if (Status s = check_rows_aligned("k", t.k); !s.ok()) return s;
    if (Status s = check_rows_aligned("v", t.v); !s.ok()) return s;
    if (Status s = check_rows_aligned("out", t.out); !s.ok()) return s;
    if (Status s = check_rows_aligned("d_out", t.d_out); !s.ok()) return s;
    if (Status s = check_rows_aligned("dq", t.dq); !s.ok()) return s;
    if (Status s = check_span("q", t.q.stride_token, p.seqlen_q); !s.ok()) return s;
    if (Status s = check_span("d_out", t.d_out.stride_token, p.seqlen_q); !s.ok()) return s;
    if (Status s = check_span("dq", t.dq.stride_token, p.seqlen_q); !s.ok()) return s;
    if (Status s = check_rows_aligned("dk", t.dk); !s.ok()) return s;
    return check_rows_aligned("dv", t.dv);
}

BlockBackwardArgs block_backward_args(const Problem& problem, const BackwardTensors& tensors,
                                      const BackwardWorkspace& workspace) {
    BlockBackwardArgs args;
    args.q = rows_of(tensors.q);
    args.k = rows_of(tensors.k);
    args.v = rows_of(tensors.v);
    args.d_out = rows_of(tensors.d_out);
    args.dq = workspace.own;
    args.adds_to_keys = workspace.plan.units.adds_to_keys;
    args.dk = args.adds_to_keys ? workspace.dk_sums : rows_of(tensors.dk);
    args.dv = args.adds_to_keys ? workspace.dv_sums : rows_of(tensors.dv);
    args.tokens_q = problem.tokens_q();
    args.slots = workspace.slots;
    args.head_dim = static_cast<std::int32_t>(problem.head_dim);
    args.value_dim = static_cast<std::int32_t>(problem.value_dim());
    args.columns = partial_columns(problem.head_dim);
    args.query_heads_per_key_head = static_cast<std::int32_t>(problem.heads_q / problem.heads_k);
    args.block_size = static_cast<std::int32_t>(problem.block_size);
    args.keys_per_list = workspace.plan.lists.keys_per_list;
    args.block = BlockDivisor(problem.block_size);
    args.scale = static_cast<float>(problem.softmax_scale());
    args.unscale = 1.0f / args.scale;
    args.scale_log2 = static_cast<float>(std::numbers::log2e * problem.softmax_scale());
    args.sequences = workspace.plan.lists.sequences;
    args.causal = problem.causal;
    return args;
}

LseDotArgs lse_dot_args(const Problem& problem, const BackwardTensors& tensors, const BackwardWorkspace& workspace,
                        const ListChunk& chunk) {
    LseDotArgs args;
    args.sequences = workspace.plan.lists.sequences;
    args.out = rows_of(tensors.out);
    args.d_out = rows_of(tensors.d_out);
    args.own = workspace.own;
    args.causal = problem.causal;
    args.lse = tensors.lse;
    args.lse_dot = workspace.lse_dot - chunk.head_begin * problem.tokens_q();
    args.tokens_q = problem.tokens_q();
    args.head_begin = chunk.head_begin;
    args.head_count = chunk.head_count;
    args.value_dim = static_cast<std::int32_t>(problem.value_dim());
    args.columns = partial_columns(problem.head_dim);
    return args;
}

/// All runs of the lists of one pass.
Status launch_runs(const UnitPlan& plan, BlockBackwardArgs args, const BlockBackwardLaunch& launch_block_backward) {
    for (args.run = 0; args.run < plan.runs; ++args.run) {
        args.run_keys = std::min(plan.run_keys, args.keys_per_list - args.run * plan.run_keys);
        if (Status s = launch_block_backward(args); !s.ok()) return s;
    }
    return {};
}

Status clear_key_sums(const Problem& problem, const BackwardWorkspace& workspace, cudaStream_t stream) {
    if (!workspace.plan.units.adds_to_keys) return {};
    const auto clear = [&](const RowTensor& sums, std::int64_t head_dim) {
        const std::int64_t bytes = problem.tokens_k() * problem.heads_k * head_dim * sum_bytes;
        return device_status(cudaMemsetAsync(sums.data, 0, static_cast<std::size_t>(bytes), stream),
                             "clearing sums of dk and dv");
    };
    if (Status s = clear(workspace.dk_sums, problem.head_dim); !s.ok()) return s;
    return clear(workspace.dv_sums, problem.value_dim());
}

Status round_key_sums(const Problem& problem, const BackwardTensors& tensors, const BackwardWorkspace& workspace,
                      cudaStream_t stream) {
    if (!workspace.plan.units.adds_to_keys) return {};
    const auto round = [&](const RowTensor& sums, const Tensor& out, const MapExtents& rows) {
        const RoundRowsArgs args = {.sums = sums,
                                    .out = rows_of(out),
                                    .batch = rows.batch,
                                    .tokens = rows.tokens,
                                    .heads = rows.heads,
                                    .head_dim = static_cast<std::int32_t>(rows.head_dim)};
        return launch_round_rows(problem.dtype, args, stream);
    };
    if (Status s = round(workspace.dk_sums, tensors.dk, key_extents(problem)); !s.ok()) return s;
    return round(workspace.dv_sums, tensors.dv, value_extents(problem));
}

Status enqueue_passes(const Problem& problem, const BackwardTensors& tensors, const BackwardWorkspace& workspace,
                      cudaStream_t stream, const BlockBackwardLaunch& launch_block_backward) {
    if (Status s = clear_key_sums(problem, workspace, stream); !s.ok()) return s;
    BlockBackwardArgs args = block_backward_args(problem, tensors, workspace);
    const Plan& plan = workspace.plan;
    for (std::int32_t chunk = 0; chunk < plan.lists.chunks(); ++chunk) {
        const LseDotArgs lse_dot = lse_dot_args(problem, tensors, workspace, plan.lists.chunk(chunk));
        // Of all tokens of the chunk's heads. Once for them: where no query has keys of its own it clears dq, of which
        // the groups of tokens before have finished their part.
        if (chunk % plan.lists.token_groups == 0) {
            if (Status s = launch_lse_dot(problem.dtype, lse_dot, stream); !s.ok()) return s;
        }
        args.lse_dot = lse_dot.lse_dot;
        if (Status s = build_lists(plan.lists, chunk, tensors.selection, workspace.lists, stream, args.lists); !s.ok())
            return s;
        if (Status s = launch_units(plan.lists, plan.units, args.lists, workspace.units, stream); !s.ok()) return s;
        for (std::int32_t pass = 0; pass < plan.units.passes; ++pass) {
            const WindowQueries queries = plan.queries(chunk, pass);
            if (queries.count == 0) break;
            args.units = workspace.units.pass(plan.units, pass);
            args.partials =
                workspace.partials - queries.first * plan.lists.rows_per_window * args.columns * element_bytes;
            if (Status s = launch_runs(plan.units, args, launch_block_backward); !s.ok()) return s;
            const CombineGradientArgs combine = {.sequences = args.sequences,
                                                 .queries = queries,
                                                 .own = workspace.own,
                                                 .dq = rows_of(tensors.dq),
                                                 .partials = args.partials,
                                                 .positions = args.lists.positions,
                                                 .head_dim = args.head_dim,
                                                 .columns = args.columns,
                                                 .slots = plan.lists.slots};
            if (Status s = launch_combine_gradient(problem.dtype, combine, stream); !s.ok()) return s;
        }
    }
    return round_key_sums(problem, tensors, workspace, stream);
}

}  // namespace

std::size_t backward_workspace(const Problem& problem, const RunShape& shape) {
    if (problem.tokens_q() == 0 || problem.tokens_k() == 0) return 0;
    return BackwardWorkspace(problem, shape, {}, nullptr).bytes;
}

Status enqueue_backward(const Problem& problem, const RunShape& shape, const BackwardTensors& tensors, void* workspace,
                        cudaStream_t stream, const BlockBackwardLaunch& launch_block_backward) {
    if (Status s = check_alignment(problem, tensors); !s.ok()) return s;
    const bool all_keys_are_seen =
        problem.causal && problem.cu_seqlens_k == nullptr && problem.seqlen_q >= problem.seqlen_k;
    if (!all_keys_are_seen) {
        // Runs of keys that no query attends to are in no list.
        if (Status s = launch_clear(rows_of(tensors.dk), key_extents(problem), stream); !s.ok()) return s;
        if (Status s = launch_clear(rows_of(tensors.dv), value_extents(problem), stream); !s.ok()) return s;
    }
    if (problem.tokens_q() == 0) return {};
    if (problem.tokens_k() == 0) return launch_clear(rows_of(tensors.dq), query_extents(problem), stream);
    BackwardWorkspace scratch(problem, shape, tensors.dq, workspace);
    if (Status s = checked_sequences(problem, scratch.boundaries, stream, scratch.plan.lists.sequences); !s.ok())
        return s;
    return enqueue_passes(problem, tensors, scratch, stream, launch_block_backward);
}

}  // namespace mobalab::kernels::cuda
