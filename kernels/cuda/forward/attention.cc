#include "kernels/cuda/forward/attention.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numbers>

#include "kernels/cuda/forward/block_forward.h"
#include "kernels/cuda/forward/combine.h"
#include "kernels/cuda/host/fill.h"
#include "kernels/cuda/host/limits.h"
#include "kernels/cuda/host/status.h"
#include "kernels/cuda/host/workspace.h"
#include "kernels/cuda/lists/checked_sequences.h"
#include "kernels/cuda/lists/lists.h"

namespace mobalab::kernels::cuda {
namespace {

constexpr std::int64_t element_bytes = 2;
constexpr std::int32_t widest_short_run = 128;  // of the kernels that have short runs

// Workspace: partials of a launch should be many, to amortise its beginning and its last, uneven wave of work; memory
// stays near that of the outputs, about 1 GB, or one and a half times that of very large outputs. Small problems take
// some more: eight heads of 4096 queries are one launch.
constexpr double bytes_per_query_byte = 2.0, long_bytes_per_query_byte = 1.5;
constexpr double most_bytes = 1.07e9, least_bytes = 0x1p26;
constexpr std::int64_t most_list_rows = std::int64_t{1} << 30;  // of a chunk
// Rows of more slots than lists sort in registers: what is cut is cut further, so that neither lists nor partials grow
// with the slots. Chunks have some 1 GB of lists, and windows at least as many rows as padding.
constexpr std::int64_t most_list_rows_of_many_slots = std::int64_t{1} << 27;
constexpr std::int64_t shortest_window_of_many_slots = 256;
// Windows: whole sequences while they are short, else as long as the cap allows, but not much shorter than this: every
// window reads the keys before it again. Queries of large blocks have many partials, and such blocks many queries:
// their windows may be shorter.
constexpr std::int64_t short_window = 8192, long_window = 65536, shortest_window = 1024;
constexpr std::int64_t runs_of_long_windows = 4;
constexpr std::int64_t most_windows_per_launch = 65535;
// Items: enough of them to share a launch's tiles evenly, long enough to amortise loading keys and values, of which a
// span has twice as many as a run.
constexpr std::int64_t multiprocessors_planned = 132;
constexpr std::int64_t items_per_multiprocessor = 10;
constexpr std::int64_t least_tiles_per_item = 4, most_tiles_of_run = 8, most_tiles_of_span = 16;
static_assert(most_tiles_of_span <= max_tiles_per_item);

std::int64_t runs_per_list(const Problem& problem, const ForwardShape& shape) {
    return (keys_of_list(problem.block_size, shape.shared_list) + shape.keys_per_run - 1) / shape.keys_per_run;
}

std::int64_t most_tiles_per_item(const ForwardShape& shape) {
    return shape.keys_per_run > keys_per_run ? most_tiles_of_span : most_tiles_of_run;
}

bool is_packed(const Problem& problem) {
    return problem.cu_seqlens_q != nullptr;
}

bool has_many_slots(const Problem& problem) {
    return problem.routed() > most_sorted_slots;
}

/// Bytes of workspace that everything should fit into.
double workspace_cap(const Problem& problem) {
    const double query_bytes =
        static_cast<double>(problem.tokens_q() * problem.heads_q * problem.head_dim * element_bytes);
    const double of_large_problems = std::max(most_bytes, long_bytes_per_query_byte * query_bytes);
    if (has_many_slots(problem)) return of_large_problems;
    return std::clamp(bytes_per_query_byte * query_bytes, least_bytes, of_large_problems);
}

double partial_row_bytes(const ForwardShape& shape) {
    return static_cast<double>(shape.width * element_bytes + static_cast<std::int64_t>(sizeof(float)));
}

/// Query tokens whose rows are as many as the padding of the lists that a window of a packed batch has: any of all its
/// sequences, as nobody knows here where they end. Otherwise those of one sequence.
std::int64_t window_of_padding(const Problem& problem, const ForwardShape& shape) {
    const std::int64_t keys = keys_of_list(problem.block_size, shape.shared_list);
    const std::int64_t lists =
        is_packed(problem) ? problem.tokens_k() / keys + 2 * problem.batch : problem.seqlen_k / keys + 1;
    return lists * list_tile_rows / std::max<std::int64_t>(problem.routed(), 1);
}

/// Query tokens that a window should have, however much memory it takes.
std::int64_t least_window(const Problem& problem, const ForwardShape& shape) {
    if (has_many_slots(problem)) {
        return std::max(shortest_window_of_many_slots, window_of_padding(problem, shape));
    }
    const std::int64_t runs = runs_per_list(problem, shape);
    const std::int64_t padding = is_packed(problem) ? window_of_padding(problem, shape) : 0;
    if (runs <= runs_of_long_windows) return std::max(long_window, padding);
    const std::int64_t group = problem.heads_q / problem.heads_k;
    return std::max({shortest_window, long_window * runs_of_long_windows / (runs * group), padding});
}

/// Query tokens of a window.
std::int64_t choose_window(const Problem& problem, const ForwardShape& shape) {
    const std::int64_t sequence = std::max<std::int64_t>(problem.seqlen_q, 1);
    const double rows =
        static_cast<double>(problem.heads_q / problem.heads_k * problem.routed() * runs_per_list(problem, shape));
    const double affordable = workspace_cap(problem) / (std::max(rows, 1.0) * partial_row_bytes(shape));
    std::int64_t window = sequence * std::max<std::int64_t>(1, short_window / sequence);
    if (is_packed(problem)) window = std::max(window, std::min(window_of_padding(problem, shape), problem.tokens_q()));
    const std::int64_t least = least_window(problem, shape);
    while (window > least && static_cast<double>(window) > affordable) window = (window + 1) / 2;
    return window;
}

PartialLayout partial_layout(const Problem& problem, const ForwardShape& shape, const ListPlan& lists,
                             std::int32_t windows) {
    PartialLayout partials;
    partials.window_rows = lists.rows_per_window;
    partials.windows = windows;
    partials.tokens = lists.tokens_per_window;
    partials.heads = lists.heads_per_window;
    partials.runs = static_cast<std::int32_t>(runs_per_list(problem, shape));
    partials.first_own = shape.width == problem.value_dim() ? 1 : 0;
    partials.run_shift = std::countr_zero(static_cast<std::uint32_t>(shape.keys_per_run));
    return partials;
}

struct AttentionWorkspace {
    ForwardPlan plan;
    PartialLayout partials;
    void* boundaries = nullptr;  ///< of checked_sequences()
    void* lists = nullptr;
    std::size_t bytes = 0;

    AttentionWorkspace(const Problem& problem, const ForwardShape& shape, void* workspace)
        : plan(make_forward_plan(problem, shape)),
          partials(partial_layout(problem, shape, plan.lists, plan.windows_per_launch)) {
        WorkspaceCarver carver(workspace);
        boundaries = carver.take_bytes(checked_sequences_size(problem));
        partials.lse = carver.take<float>(partials.rows());
        partials.out = carver.take<std::uint16_t>(partials.rows() * shape.width);
        lists = carver.take_bytes(list_workspace_size(plan.lists));
        bytes = carver.used();
    }
};

Status check_alignment(ConstTensor q, ConstTensor k, ConstTensor v, Tensor out) {
    if (Status s = check_rows_aligned("q", q); !s.ok()) return s;
    if (Status s = check_rows_aligned("k", k); !s.ok()) return s;
    if (Status s = check_rows_aligned("v", v); !s.ok()) return s;
    return check_rows_aligned("out", out);
}

BlockForwardArgs block_forward_args(const Problem& problem, const ForwardShape& shape, ConstTensor q, ConstTensor k,
                                    ConstTensor v, const OutputTensors& output, const AttentionWorkspace& workspace) {
    BlockForwardArgs args;
    args.output = output;
    args.partial_bytes = static_cast<std::int32_t>(shape.width * element_bytes);
    args.pieces = static_cast<std::int32_t>(problem.head_dim * element_bytes / 16);
    args.value_pieces = static_cast<std::int32_t>(problem.value_dim() * element_bytes / 16);
    args.q = rows_of(q);
    args.k = rows_of(k);
    args.v = rows_of(v);
    args.query_heads_per_key_head = static_cast<std::int32_t>(problem.heads_q / problem.heads_k);
    args.block_size = static_cast<std::int32_t>(problem.block_size);
    args.keys_per_list = workspace.plan.lists.keys_per_list;
    args.slots = static_cast<std::int32_t>(problem.routed());
    args.causal = problem.causal;
    args.windows.token_windows = workspace.plan.lists.token_windows;
    args.scale_log2 = static_cast<float>(std::numbers::log2e * problem.softmax_scale());
    args.sequences = workspace.plan.lists.sequences;
    args.partials = workspace.partials;
    return args;
}

}  // namespace

ForwardShape hopper_forward_shape(const Problem& problem) {
    const std::int32_t width = forward_width(problem);
    const std::int64_t block = problem.block_size;
    const bool known = problem.causal && problem.head_dim == width && problem.value_dim() == width;
    if (known && width <= widest_short_run && (block == 16 || block == 32 || block == 64)) {
        return {width, keys_per_short_run, keys_per_short_run};
    }
    const bool spans = (width == 64 || width == 128) && keys_of_list(block) > keys_per_run;
    return {width, spans ? keys_per_span : keys_per_run};
}

std::int32_t ForwardPlan::launches() const {
    return (lists.windows() + windows_per_launch - 1) / windows_per_launch;
}

ForwardPlan make_forward_plan(const Problem& problem, const ForwardShape& shape) {
    ListOptions options;
    options.max_rows = has_many_slots(problem) ? most_list_rows_of_many_slots : most_list_rows;
    options.window = choose_window(problem, shape);
    options.shared_list = shape.shared_list;
    options.tiles_per_item = static_cast<std::int32_t>(most_tiles_per_item(shape));
    ForwardPlan plan;
    plan.lists = make_list_plan(problem, options);
    const std::int32_t windows = std::max(plan.lists.windows(), 1);
    const double window_bytes =
        static_cast<double>(partial_layout(problem, shape, plan.lists, 1).rows()) * partial_row_bytes(shape);
    const double left = workspace_cap(problem) - static_cast<double>(list_workspace_size(plan.lists));
    const auto most = static_cast<std::int32_t>(
        std::clamp(left / std::max(window_bytes, 1.0), 1.0,
                   static_cast<double>(std::min<std::int64_t>(windows, most_windows_per_launch))));
    const std::int32_t launches = (windows + most - 1) / most;
    plan.windows_per_launch = (windows + launches - 1) / launches;  // the same number of launches, evenly filled

    const std::int64_t own_rows = static_cast<std::int64_t>(plan.lists.heads_per_window) * plan.lists.tokens_per_window;
    const std::int64_t tiles = (plan.lists.rows_per_window + own_rows) * plan.windows_per_launch / rows_per_tile;
    options.tiles_per_item =
        static_cast<std::int32_t>(std::clamp<std::int64_t>(tiles / (multiprocessors_planned * items_per_multiprocessor),
                                                           least_tiles_per_item, most_tiles_per_item(shape)));
    plan.lists = make_list_plan(problem, options);
    plan.lists.counters = plan.launches();
    return plan;
}

std::size_t forward_workspace(const Problem& problem, const ForwardShape& shape) {
    if (problem.tokens_k() == 0) return 0;
    return AttentionWorkspace(problem, shape, nullptr).bytes;
}

Status enqueue_forward(const Problem& problem, const ForwardShape& shape, ConstTensor q, ConstTensor k, ConstTensor v,
                       const std::int32_t* selection, Tensor out, float* lse, void* workspace, cudaStream_t stream,
                       const BlockForwardLaunch& launch_block_forward) {
    if (Status s = check_alignment(q, k, v, out); !s.ok()) return s;
    if (problem.tokens_k() == 0) {
        if (Status s = launch_clear(rows_of(out), output_extents(problem), stream); !s.ok()) return s;
        return launch_fill(lse, problem.tokens_q() * problem.heads_q, std::numeric_limits<float>::infinity(), stream);
    }
    AttentionWorkspace scratch(problem, shape, workspace);
    const ForwardPlan& plan = scratch.plan;
    if (Status s = checked_sequences(problem, scratch.boundaries, stream, scratch.plan.lists.sequences); !s.ok())
        return s;
    const OutputTensors output = {rows_of(out), lse, problem.tokens_q()};
    BlockForwardArgs args = block_forward_args(problem, shape, q, k, v, output, scratch);

    for (std::int32_t chunk = 0; chunk < plan.lists.chunks(); ++chunk) {
        if (Status s = build_lists(plan.lists, chunk, selection, scratch.lists, stream, args.lists); !s.ok()) return s;
        args.next_unit = args.lists.counters;
        for (std::int32_t first = 0; first < plan.lists.windows(); first += plan.windows_per_launch) {
            args.windows.first = first;
            args.windows.count = std::min(plan.windows_per_launch, plan.lists.windows() - first);
            if (Status s = launch_block_forward(args); !s.ok()) return s;
            if (Status s = launch_combine(problem.dtype, shape.width, args, stream); !s.ok()) return s;
            ++args.next_unit;
        }
    }
    return {};
}

}  // namespace mobalab::kernels::cuda
