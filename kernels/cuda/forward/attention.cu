#include "kernels/cuda/forward/attention.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <limits>
#include <numbers>

#include "kernels/cuda/forward/block_forward.h"
#include "kernels/cuda/forward/combine.h"
#include "kernels/cuda/host/fill.h"
#include "kernels/cuda/host/limits.h"
#include "kernels/cuda/host/status.h"
#include "kernels/cuda/host/tensor_map.h"
#include "kernels/cuda/host/workspace.h"
#include "kernels/cuda/lists/checked_sequences.h"
#include "kernels/cuda/lists/lists.h"

namespace mobalab::kernels::cuda {
namespace {

constexpr std::int64_t element_bytes = 2;
constexpr int widest_wgmma = 128;

// Workspace: partials of a launch should be many, to amortise its beginning and its last, uneven wave of work; memory
// stays near that of the outputs, about 1 GB, or one and a half times that of very large outputs.
constexpr double bytes_per_query_byte = 2.0, long_bytes_per_query_byte = 1.5;
constexpr double most_bytes = 1.07e9;
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
// Items: enough of them to share a launch's tiles evenly, long enough to amortise loading keys and values.
constexpr std::int64_t multiprocessors_planned = 132;
constexpr std::int64_t items_per_multiprocessor = 10;
constexpr std::int64_t least_tiles_per_item = 4, most_tiles_per_item = 8;
static_assert(most_tiles_per_item <= max_tiles_per_item);

std::int64_t runs_per_list(const Problem& problem) {
    return (keys_of_list(problem.block_size) + keys_per_run - 1) / keys_per_run;
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
    return std::min(bytes_per_query_byte * query_bytes, of_large_problems);
}

double partial_row_bytes(const Problem& problem) {
    return static_cast<double>(forward_width(problem) * element_bytes + static_cast<std::int64_t>(sizeof(float)));
}

/// Query tokens that a window should have, however much memory it takes.
std::int64_t least_window(const Problem& problem) {
    if (has_many_slots(problem)) {
        const std::int64_t lists = problem.seqlen_k / keys_of_list(problem.block_size) + 1;
        return std::max(shortest_window_of_many_slots, lists * list_tile_rows / problem.routed());
    }
    const std::int64_t runs = runs_per_list(problem);
    if (runs <= runs_of_long_windows) return long_window;
    const std::int64_t group = problem.heads_q / problem.heads_k;
    return std::max(shortest_window, long_window * runs_of_long_windows / (runs * group));
}

/// Query tokens of a window.
std::int64_t choose_window(const Problem& problem) {
    const std::int64_t sequence = std::max<std::int64_t>(problem.seqlen_q, 1);
    const double rows =
        static_cast<double>(problem.heads_q / problem.heads_k * problem.routed() * runs_per_list(problem));
    const double affordable = workspace_cap(problem) / (std::max(rows, 1.0) * partial_row_bytes(problem));
    std::int64_t window = sequence * std::max<std::int64_t>(1, short_window / sequence);
    const std::int64_t least = least_window(problem);
    while (window > least && static_cast<double>(window) > affordable) window = (window + 1) / 2;
    return window;
}

PartialLayout partial_layout(const Problem& problem, const ListPlan& lists, std::int32_t windows) {
    PartialLayout partials;
    partials.window_rows = lists.rows_per_window;
    partials.windows = windows;
    partials.tokens = lists.tokens_per_window;
    partials.heads = lists.heads_per_window;
    partials.runs = static_cast<std::int32_t>(runs_per_list(problem));
    partials.first_own = forward_width(problem) == problem.value_dim() ? 1 : 0;
    return partials;
}

struct AttentionWorkspace {
    ForwardPlan plan;
    PartialLayout partials;
    void* boundaries = nullptr;         ///< of checked_sequences()
    std::int32_t* next_unit = nullptr;  ///< one a launch
    void* lists = nullptr;
    std::size_t bytes = 0;

    AttentionWorkspace(const Problem& problem, void* workspace)
        : plan(make_forward_plan(problem)), partials(partial_layout(problem, plan.lists, plan.windows_per_launch)) {
        WorkspaceCarver carver(workspace);
        boundaries = carver.take_bytes(checked_sequences_size(problem));
        next_unit = carver.take<std::int32_t>(static_cast<std::int64_t>(plan.lists.chunks()) * plan.launches());
        partials.lse = carver.take<float>(partials.rows());
        partials.out = carver.take<std::uint16_t>(partials.rows() * forward_width(problem));
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

Status count_multiprocessors(int& count) {
    int device = 0;
    if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) {
        return device_status(error, "cudaGetDevice");
    }
    return device_status(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device),
                         "cudaDeviceGetAttribute");
}

BlockForwardArgs block_forward_args(const Problem& problem, ConstTensor q, ConstTensor k, ConstTensor v,
                                    const OutputTensors& output, const AttentionWorkspace& workspace) {
    BlockForwardArgs args;
    args.output = output;
    args.partial_bytes = static_cast<std::int32_t>(forward_width(problem) * element_bytes);
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

/// The kernel for the width, with what it needs beyond the arguments.
class BlockForward {
public:
    Status prepare(const Problem& problem, ConstTensor k, ConstTensor v) {
        dtype_ = problem.dtype;
        width_ = forward_width(problem);
        if (Status s = count_multiprocessors(multiprocessors_); !s.ok()) return s;
        if (width_ > widest_wgmma) return {};
        const int box = forward_box_keys(keys_of_list(problem.block_size));
        if (Status s = make_tensor_map("k", k, dtype_, key_extents(problem), box, k_map_); !s.ok()) return s;
        return make_tensor_map("v", v, dtype_, value_extents(problem), box, v_map_);
    }
    Status launch(const BlockForwardArgs& args, cudaStream_t stream) const {
        if (width_ > widest_wgmma) {
            return launch_block_forward_mma(dtype_, width_, multiprocessors_, args, stream);
        }
        if (dtype_ == DataType::bf16) {
            return launch_block_forward_wgmma<__nv_bfloat16>(width_, multiprocessors_, args, k_map_, v_map_, stream);
        }
        return launch_block_forward_wgmma<__half>(width_, multiprocessors_, args, k_map_, v_map_, stream);
    }

private:
    DataType dtype_ = DataType::bf16;
    int width_ = 0;
    int multiprocessors_ = 0;
    CUtensorMap k_map_{}, v_map_{};
};

}  // namespace

std::int32_t ForwardPlan::launches() const {
    return (lists.windows() + windows_per_launch - 1) / windows_per_launch;
}

ForwardPlan make_forward_plan(const Problem& problem) {
    ListOptions options;
    options.max_rows = has_many_slots(problem) ? most_list_rows_of_many_slots : most_list_rows;
    options.window = choose_window(problem);
    options.tiles_per_item = most_tiles_per_item;
    ForwardPlan plan;
    plan.lists = make_list_plan(problem, options);
    const std::int32_t windows = std::max(plan.lists.windows(), 1);
    const double window_bytes =
        static_cast<double>(partial_layout(problem, plan.lists, 1).rows()) * partial_row_bytes(problem);
    const double left = workspace_cap(problem) - static_cast<double>(list_workspace_size(plan.lists));
    const auto most = static_cast<std::int32_t>(
        std::clamp(left / std::max(window_bytes, 1.0), 1.0,
                   static_cast<double>(std::min<std::int64_t>(windows, most_windows_per_launch))));
    const std::int32_t launches = (windows + most - 1) / most;
    plan.windows_per_launch = (windows + launches - 1) / launches;  // the same number of launches, evenly filled

    const std::int64_t own_rows = static_cast<std::int64_t>(plan.lists.heads_per_window) * plan.lists.tokens_per_window;
    const std::int64_t tiles = (plan.lists.rows_per_window + own_rows) * plan.windows_per_launch / rows_per_tile;
    options.tiles_per_item = static_cast<std::int32_t>(std::clamp<std::int64_t>(
        tiles / (multiprocessors_planned * items_per_multiprocessor), least_tiles_per_item, most_tiles_per_item));
    plan.lists = make_list_plan(problem, options);
    return plan;
}

std::size_t attention_forward_workspace(const Problem& problem) {
    if (problem.tokens_k() == 0) return 0;
    return AttentionWorkspace(problem, nullptr).bytes;
}

Status enqueue_attention_forward(const Problem& problem, ConstTensor q, ConstTensor k, ConstTensor v,
                                 const std::int32_t* selection, Tensor out, float* lse, void* workspace,
                                 cudaStream_t stream) {
    if (Status s = check_alignment(q, k, v, out); !s.ok()) return s;
    if (problem.tokens_k() == 0) {
        if (Status s = launch_clear(rows_of(out), output_extents(problem), stream); !s.ok()) return s;
        return launch_fill(lse, problem.tokens_q() * problem.heads_q, std::numeric_limits<float>::infinity(), stream);
    }
    BlockForward block_forward;
    if (Status s = block_forward.prepare(problem, k, v); !s.ok()) return s;
    AttentionWorkspace scratch(problem, workspace);
    const ForwardPlan& plan = scratch.plan;
    if (Status s = checked_sequences(problem, scratch.boundaries, stream, scratch.plan.lists.sequences); !s.ok())
        return s;
    const OutputTensors output = {rows_of(out), lse, problem.tokens_q()};
    BlockForwardArgs args = block_forward_args(problem, q, k, v, output, scratch);

    const auto counters = static_cast<std::size_t>(plan.lists.chunks()) * static_cast<std::size_t>(plan.launches());
    const cudaError_t error = cudaMemsetAsync(scratch.next_unit, 0, counters * sizeof(std::int32_t), stream);
    if (error != cudaSuccess) return device_status(error, "clearing work counters");
    args.next_unit = scratch.next_unit;
    for (std::int32_t chunk = 0; chunk < plan.lists.chunks(); ++chunk) {
        if (Status s = build_lists(plan.lists, chunk, selection, scratch.lists, stream, args.lists); !s.ok()) return s;
        for (std::int32_t first = 0; first < plan.lists.windows(); first += plan.windows_per_launch) {
            args.windows.first = first;
            args.windows.count = std::min(plan.windows_per_launch, plan.lists.windows() - first);
            if (Status s = block_forward.launch(args, stream); !s.ok()) return s;
            if (Status s = launch_combine(problem.dtype, forward_width(problem), args, stream); !s.ok()) return s;
            ++args.next_unit;
        }
    }
    return {};
}

}  // namespace mobalab::kernels::cuda
