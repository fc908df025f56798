#include "kernels/cuda/forward/masked_forward.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <numbers>

#include "kernels/cuda/host/limits.h"
#include "kernels/cuda/host/tensor_map.h"
#include "kernels/cuda/lists/checked_sequences.h"

namespace mobalab::kernels::cuda {
namespace {

MaskedForwardArgs masked_forward_args(const Problem& problem, const Sequences& sequences, const std::int32_t* selection,
                                      Tensor out, float* lse) {
    MaskedForwardArgs args;
    args.output = {rows_of(out), lse, problem.tokens_q()};
    args.selection = selection;
    args.sequences = sequences;
    args.candidates = Candidates(problem);
    args.block = BlockDivisor(problem.block_size);
    args.slots = static_cast<std::int32_t>(problem.routed());
    args.slot = BlockDivisor(std::max<std::int64_t>(problem.routed(), 1));
    args.mask = make_mask_layout(problem);
    args.heads_q = static_cast<std::int32_t>(problem.heads_q);
    args.query_heads_per_key_head = static_cast<std::int32_t>(problem.heads_q / problem.heads_k);
    args.row_tiles = static_cast<std::int32_t>(row_tiles(problem));
    args.value_pieces = static_cast<std::int32_t>(problem.value_dim() * 2 / 16);
    args.causal = problem.causal;
    args.scale_log2 = static_cast<float>(std::numbers::log2e * problem.softmax_scale());
    return args;
}

}  // namespace

std::size_t masked_forward_workspace(const Problem& problem) {
    return checked_sequences_size(problem);
}

Status enqueue_masked_forward(const Problem& problem, ConstTensor q, ConstTensor k, ConstTensor v,
                              const std::int32_t* selection, Tensor out, float* lse, void* workspace,
                              cudaStream_t stream) {
    if (Status s = check_rows_aligned("out", out); !s.ok()) return s;
    CUtensorMap q_map{}, k_map{}, v_map{};
    const auto make = [&](const char* name, ConstTensor tensor, const MapExtents& extents, CUtensorMap& map) {
        return make_tensor_map(name, tensor, problem.dtype, extents, masked_rows, map);
    };
    if (Status s = make("q", q, query_extents(problem), q_map); !s.ok()) return s;
    if (Status s = make("k", k, key_extents(problem), k_map); !s.ok()) return s;
    if (Status s = make("v", v, value_extents(problem), v_map); !s.ok()) return s;
    Sequences sequences;
    if (Status s = checked_sequences(problem, workspace, stream, sequences); !s.ok()) return s;
    const MaskedForwardArgs args = masked_forward_args(problem, sequences, selection, out, lse);
    const int width = masked_width(problem);
    return problem.dtype == DataType::bf16
               ? launch_masked_forward<__nv_bfloat16>(width, args, q_map, k_map, v_map, stream)
               : launch_masked_forward<__half>(width, args, q_map, k_map, v_map, stream);
}

}  // namespace mobalab::kernels::cuda
