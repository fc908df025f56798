#include "kernels/cuda/attention.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/cuda/block_forward.h"
#include "kernels/cuda/combine.h"
#include "kernels/cuda/limits.h"
#include "kernels/cuda/lists.h"
#include "kernels/cuda/status.h"
#include "kernels/cuda/tensor_map.h"
#include "kernels/cuda/workspace.h"

namespace mobalab::kernels::cuda {
namespace {

constexpr std::int64_t element_bytes = 2;
constexpr std::int64_t widest_wgmma_head = 128;

// Chunks of the mma path: large enough to amortise launches and the last, uneven wave of work, small enough for memory
// to stay near that of the outputs, about 1 GB, or half of very large outputs.
constexpr double scratch_per_query_bytes = 2.75;
constexpr double most_scratch_bytes = 1.07e9;
constexpr double long_scratch_per_query_bytes = 0.5;
constexpr std::int64_t least_window = 65536;  // queries of one head, whatever the cap says
// Chunks of the fused path hold no partials; their lists take 8 bytes a row.
constexpr std::int64_t most_list_rows = std::int64_t{1} << 30;
// Items: enough of them to share the tiles of a window or chunk evenly, long enough to amortise loading keys and
// values.
constexpr std::int64_t multiprocessors_planned = 132;
constexpr std::int64_t items_per_multiprocessor = 10;
constexpr std::int64_t least_tiles_per_item = 4, most_tiles_per_item = 8;
static_assert(most_tiles_per_item <= max_tiles_per_item);
// Windows.
constexpr double resident_bytes = 24e6;  // partials of the windows in work that stay in L2 beside queries and keys
constexpr std::int32_t resident_slots = 3, streaming_slots = 2;
constexpr std::int64_t least_resident_window = 512, streaming_window = 131072;

std::int64_t runs_per_list(const Problem& problem) {
    return std::max<std::int64_t>(1, problem.block_size / keys_per_run);
}

/// Rows of list scratch that stay within the cap once the other partials of own blocks and the lists are added.
std::int64_t affordable_rows(const Problem& problem) {
    const double query_bytes = static_cast<double>(problem.tokens_q() * problem.heads_q * problem.head_dim) * 2.0;
    const auto keys_per_list = static_cast<double>(std::max<std::int64_t>(problem.block_size, keys_per_run));
    const double rows_per_query = static_cast<double>(problem.routed()) + rows_per_tile / keys_per_list;
    const double partial_bytes = static_cast<double>(problem.head_dim) * 2.0 + sizeof(float);
    const auto runs = static_cast<double>(runs_per_list(problem));
    const double bytes_per_row = partial_bytes * (runs + (runs - 1) / rows_per_query) + 2 * sizeof(std::int32_t);

    const double cap = std::min(scratch_per_query_bytes * query_bytes,
                                std::max(most_scratch_bytes, long_scratch_per_query_bytes * query_bytes));
    const auto least_queries = static_cast<double>(std::min(problem.tokens_q(), least_window));
    const double padding = rows_per_tile * (static_cast<double>(problem.tokens_k()) / keys_per_list +
                                            2.0 * static_cast<double>(problem.batch) + 1.0);
    const double least_rows = least_queries * static_cast<double>(problem.routed()) + padding;
    return static_cast<std::int64_t>(std::max(cap / bytes_per_row, least_rows));
}

/// Bytes of partials that one query token leaves for the query heads of one key head.
double partial_bytes_per_token(const Problem& problem) {
    const auto heads = static_cast<double>(problem.heads_q / problem.heads_k);
    const auto listed = static_cast<double>(problem.routed() * runs_per_list(problem));
    return heads * listed * static_cast<double>(problem.head_dim * element_bytes + sizeof(float));
}

std::int64_t floor_power_of_two(double x) {
    return x < 1.0 ? 1 : std::int64_t{1} << static_cast<int>(std::log2(x));
}

/// Windows so small that the partials of `resident_slots` of them stay in L2, or windows so large that keys are hardly
/// read again. A window reads the keys before it anew, seqlen_k / 2 of them on average; that must cost less than what
/// it saves, one trip of every partial to memory and back.
ForwardTuning fused_tuning(const Problem& problem) {
    ForwardTuning tuning;
    const double per_token = std::max(partial_bytes_per_token(problem), 1.0);
    const std::int64_t window =
        std::max(least_resident_window, floor_power_of_two(resident_bytes / (resident_slots * per_token)));
    const double keys_read = static_cast<double>(problem.seqlen_k) / 2.0 *
                             static_cast<double>(2 * problem.head_dim * element_bytes) / static_cast<double>(window);
    const bool resident = keys_read < 2.0 * per_token;
    tuning.window = resident ? window : std::min(streaming_window, floor_power_of_two(most_scratch_bytes / per_token));
    tuning.slots = resident ? resident_slots : streaming_slots;
    tuning.keys_evict_first = resident;
    return tuning;
}

ListPlan make_plan(const Problem& problem, const ForwardTuning& tuning) {
    ListOptions options;
    options.window = tuning.window;
    options.max_rows = tuning.window > 0 ? most_list_rows : affordable_rows(problem);
    options.tiles_per_item = tuning.tiles_per_item;
    return make_list_plan(problem, options);
}

/// Items for one window that keep all multiprocessors busy.
std::int32_t choose_tiles_per_item(const Problem& problem, const ForwardTuning& tuning) {
    const ListPlan plan = make_plan(problem, tuning);
    const std::int64_t own_rows = static_cast<std::int64_t>(plan.heads_per_window) * plan.tokens_per_window;
    const std::int64_t tiles = (plan.rows_per_window + own_rows) / rows_per_tile;
    return static_cast<std::int32_t>(std::clamp<std::int64_t>(
        tiles / (multiprocessors_planned * items_per_multiprocessor), least_tiles_per_item, most_tiles_per_item));
}

bool is_fused(const Problem& problem) {
    return problem.head_dim <= widest_wgmma_head;
}

struct AttentionWorkspace {
    ListPlan plan;
    PartialLayout partials;
    WindowSchedule schedule;
    std::int32_t* counters = nullptr;  ///< of one chunk, cleared before it
    std::size_t counter_bytes = 0;
    void* lists = nullptr;
    std::size_t bytes = 0;

    AttentionWorkspace(const Problem& problem, const ForwardTuning& tuning, void* workspace)
        : plan(make_plan(problem, tuning)) {
        partials.window_rows = plan.rows_per_window;
        partials.slots = std::min({tuning.slots, plan.windows(), max_window_slots});
        partials.tokens = plan.tokens_per_window;
        partials.heads = plan.heads_per_window;
        partials.runs = static_cast<std::int32_t>(runs_per_list(problem));

        schedule.windows = plan.windows();
        schedule.token_windows = plan.token_windows;

        WorkspaceCarver carver(workspace);
        counters = carver.take<std::int32_t>(1 + 2 * static_cast<std::int64_t>(plan.windows()));
        counter_bytes = carver.used();
        if (counters != nullptr) {
            schedule.next_unit = counters;
            schedule.forwarded = counters + 1;
            schedule.combined = counters + 1 + plan.windows();
        }
        partials.lse = carver.take<float>(partials.rows());
        partials.out = carver.take<std::uint16_t>(partials.rows() * problem.head_dim);
        lists = carver.take_bytes(list_workspace_size(plan));
        bytes = carver.used();
    }
};

Status check_alignment(const Problem& problem, ConstTensor q, ConstTensor k, ConstTensor v, Tensor out) {
    if (Status s = check_rows_aligned("q", q.data, q.stride_token, q.stride_head, problem.heads_q); !s.ok()) return s;
    if (Status s = check_rows_aligned("k", k.data, k.stride_token, k.stride_head, problem.heads_k); !s.ok()) return s;
    if (Status s = check_rows_aligned("v", v.data, v.stride_token, v.stride_head, problem.heads_k); !s.ok()) return s;
    return check_rows_aligned("out", out.data, out.stride_token, out.stride_head, problem.heads_q);
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
                                    const OutputTensors& output, const ForwardTuning& tuning,
                                    const AttentionWorkspace& workspace) {
    BlockForwardArgs args;
    args.output = output;
    args.partial_bytes = static_cast<std::int32_t>(problem.head_dim * element_bytes);
    args.q = q.data;
    args.k = k.data;
    args.v = v.data;
    args.q_stride_token = q.stride_token * element_bytes;
    args.q_stride_head = q.stride_head * element_bytes;
    args.k_stride_token = k.stride_token * element_bytes;
    args.k_stride_head = k.stride_head * element_bytes;
    args.v_stride_token = v.stride_token * element_bytes;
    args.v_stride_head = v.stride_head * element_bytes;
    args.query_heads_per_key_head = static_cast<std::int32_t>(problem.heads_q / problem.heads_k);
    args.block_size = static_cast<std::int32_t>(problem.block_size);
    args.keys_per_list = workspace.plan.keys_per_list;
    args.scale_log2 = static_cast<float>(std::numbers::log2e / std::sqrt(static_cast<double>(problem.head_dim)));
    args.sequences = workspace.plan.sequences;
    args.partials = workspace.partials;
    args.selected = static_cast<std::int32_t>(problem.routed());
    args.schedule = workspace.schedule;
    args.keys_evict_first = tuning.keys_evict_first;
    return args;
}

/// The kernels for the head size, with what they need beyond the arguments.
class Launcher {
public:
    Status prepare(const Problem& problem, ConstTensor k, ConstTensor v) {
        dtype_ = problem.dtype;
        head_dim_ = static_cast<int>(problem.head_dim);
        if (Status s = count_multiprocessors(multiprocessors_); !s.ok()) return s;
        if (!is_fused(problem)) return {};
        const std::int64_t tokens = problem.tokens_k(), heads = problem.heads_k;
        if (Status s = make_tensor_map("k", k, dtype_, tokens, heads, head_dim_, keys_per_run, k_map_); !s.ok())
            return s;
        return make_tensor_map("v", v, dtype_, tokens, heads, head_dim_, keys_per_run, v_map_);
    }
    Status launch(const BlockForwardArgs& args, cudaStream_t stream) const {
        if (head_dim_ > widest_wgmma_head) {
            if (Status s = launch_block_forward_mma(dtype_, head_dim_, multiprocessors_, args, stream); !s.ok())
                return s;
            return launch_combine(dtype_, head_dim_, args, stream);
        }
        if (dtype_ == DataType::bf16) {
            return launch_block_forward_wgmma<__nv_bfloat16>(head_dim_, multiprocessors_, args, k_map_, v_map_, stream);
        }
        return launch_block_forward_wgmma<__half>(head_dim_, multiprocessors_, args, k_map_, v_map_, stream);
    }

private:
    DataType dtype_ = DataType::bf16;
    int head_dim_ = 0;
    int multiprocessors_ = 0;
    CUtensorMap k_map_{}, v_map_{};
};

}  // namespace

ForwardTuning choose_tuning(const Problem& problem) {
    ForwardTuning tuning = is_fused(problem) ? fused_tuning(problem) : ForwardTuning{};
    tuning.tiles_per_item = choose_tiles_per_item(problem, tuning);
    return tuning;
}

std::size_t attention_forward_workspace(const Problem& problem, const ForwardTuning& tuning) {
    return AttentionWorkspace(problem, tuning, nullptr).bytes;
}

Status enqueue_attention_forward(const Problem& problem, const ForwardTuning& tuning, ConstTensor q, ConstTensor k,
                                 ConstTensor v, const std::int32_t* selection, Tensor out, float* lse, void* workspace,
                                 cudaStream_t stream) {
    if (Status s = check_alignment(problem, q, k, v, out); !s.ok()) return s;
    Launcher launcher;
    if (Status s = launcher.prepare(problem, k, v); !s.ok()) return s;
    const AttentionWorkspace scratch(problem, tuning, workspace);
    const OutputTensors output = {out.data, out.stride_token * element_bytes, out.stride_head * element_bytes, lse,
                                  problem.tokens_q()};
    BlockForwardArgs args = block_forward_args(problem, q, k, v, output, tuning, scratch);
    for (std::int32_t chunk = 0; chunk < scratch.plan.chunks(); ++chunk) {
        const cudaError_t error = cudaMemsetAsync(scratch.counters, 0, scratch.counter_bytes, stream);
        if (error != cudaSuccess) return device_status(error, "clearing work counters");
        if (Status s = build_lists(scratch.plan, chunk, selection, scratch.lists, stream, args.lists); !s.ok())
            return s;
        if (Status s = launcher.launch(args, stream); !s.ok()) return s;
    }
    return {};
}

}  // namespace mobalab::kernels::cuda
