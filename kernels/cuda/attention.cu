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

// Chunks: large enough to amortise launches and the last, uneven wave of work, small enough for memory to stay near
// that of the outputs, about 1 GB, or half of very large outputs.
constexpr double scratch_per_query_bytes = 2.75;
constexpr double most_scratch_bytes = 1.07e9;
constexpr double long_scratch_per_query_bytes = 0.5;
constexpr std::int64_t least_window = 65536;  // queries of one head, whatever the cap says
// Items: enough of them to share a chunk's tiles evenly, long enough to amortise loading keys and values.
constexpr std::int64_t multiprocessors_planned = 132;
constexpr std::int64_t items_per_multiprocessor = 10;
constexpr std::int64_t least_tiles_per_item = 4, most_tiles_per_item = 8;
static_assert(most_tiles_per_item <= max_tiles_per_item);

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

ListPlan make_plan(const Problem& problem) {
    ListOptions options;
    options.max_rows = affordable_rows(problem);
    options.tiles_per_item = most_tiles_per_item;
    const ListPlan coarse = make_list_plan(problem, options);
    const std::int64_t own_rows = static_cast<std::int64_t>(coarse.heads_per_chunk) * coarse.tokens_per_chunk;
    const std::int64_t tiles = (coarse.rows + own_rows) / rows_per_tile;
    options.tiles_per_item = static_cast<std::int32_t>(std::clamp<std::int64_t>(
        tiles / (multiprocessors_planned * items_per_multiprocessor), least_tiles_per_item, most_tiles_per_item));
    return make_list_plan(problem, options);
}

struct AttentionWorkspace {
    ListPlan plan;
    PartialLayout partials;
    std::int32_t* next_unit = nullptr;  ///< one a chunk
    void* lists = nullptr;
    std::size_t bytes = 0;

    AttentionWorkspace(const Problem& problem, void* workspace) : plan(make_plan(problem)) {
        WorkspaceCarver carver(workspace);
        partials.list_rows = plan.rows;
        partials.tokens = plan.tokens_per_chunk;
        partials.heads = plan.heads_per_chunk;
        partials.runs = static_cast<std::int32_t>(runs_per_list(problem));
        next_unit = carver.take<std::int32_t>(plan.chunks());
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
                                    const OutputTensors& output, const AttentionWorkspace& workspace) {
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
    return args;
}

CombineArgs combine_args(const Problem& problem, const OutputTensors& output, const AttentionWorkspace& workspace) {
    CombineArgs args;
    args.output = output;
    args.slots = static_cast<std::int32_t>(problem.routed());
    args.keys_per_list = workspace.plan.keys_per_list;
    args.sequences = workspace.plan.sequences;
    args.partials = workspace.partials;
    return args;
}

/// The kernel for the head size, with what it needs beyond the arguments.
class BlockForward {
public:
    Status prepare(const Problem& problem, ConstTensor k, ConstTensor v) {
        dtype_ = problem.dtype;
        head_dim_ = static_cast<int>(problem.head_dim);
        if (Status s = count_multiprocessors(multiprocessors_); !s.ok()) return s;
        if (problem.head_dim > widest_wgmma_head) return {};
        const std::int64_t tokens = problem.tokens_k(), heads = problem.heads_k;
        if (Status s = make_tensor_map("k", k, dtype_, tokens, heads, head_dim_, keys_per_run, k_map_); !s.ok())
            return s;
        return make_tensor_map("v", v, dtype_, tokens, heads, head_dim_, keys_per_run, v_map_);
    }
    Status launch(const BlockForwardArgs& args, cudaStream_t stream) const {
        if (head_dim_ > widest_wgmma_head) {
            return launch_block_forward_mma(dtype_, head_dim_, multiprocessors_, args, stream);
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

std::size_t attention_forward_workspace(const Problem& problem) {
    return AttentionWorkspace(problem, nullptr).bytes;
}

Status enqueue_attention_forward(const Problem& problem, ConstTensor q, ConstTensor k, ConstTensor v,
                                 const std::int32_t* selection, Tensor out, float* lse, void* workspace,
                                 cudaStream_t stream) {
    if (Status s = check_alignment(problem, q, k, v, out); !s.ok()) return s;
    BlockForward block_forward;
    if (Status s = block_forward.prepare(problem, k, v); !s.ok()) return s;
    const AttentionWorkspace scratch(problem, workspace);
    const OutputTensors output = {out.data, out.stride_token * element_bytes, out.stride_head * element_bytes, lse,
                                  problem.tokens_q()};
    BlockForwardArgs block_args = block_forward_args(problem, q, k, v, output, scratch);
    CombineArgs join_args = combine_args(problem, output, scratch);

    const std::int32_t chunks = scratch.plan.chunks();
    const auto counter_bytes = static_cast<std::size_t>(chunks) * sizeof(std::int32_t);
    if (const cudaError_t error = cudaMemsetAsync(scratch.next_unit, 0, counter_bytes, stream); error != cudaSuccess) {
        return device_status(error, "clearing work counters");
    }
    for (std::int32_t chunk = 0; chunk < chunks; ++chunk) {
        ListView lists;
        if (Status s = build_lists(scratch.plan, chunk, selection, scratch.lists, stream, lists); !s.ok()) return s;
        block_args.lists = join_args.lists = lists;
        block_args.next_unit = scratch.next_unit + chunk;
        if (Status s = block_forward.launch(block_args, stream); !s.ok()) return s;
        if (Status s = launch_combine(problem.dtype, static_cast<int>(problem.head_dim), join_args, stream); !s.ok())
            return s;
    }
    return {};
}

}  // namespace mobalab::kernels::cuda
