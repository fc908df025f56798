#include "kernels/cuda/routing/route.h"

#include <bit>

#include "kernels/cuda/host/tensor_map.h"
#include "kernels/cuda/routing/route_launch.cuh"

namespace mobalab::kernels::cuda {
namespace {

Status centroid_map(const char* name, const Problem& problem, const void* centroids, CUtensorMap& map) {
    const ConstTensor tensor = {centroids, 0, problem.heads_k * problem.head_dim, problem.head_dim};
    const MapExtents extents = {1, problem.blocks(), problem.heads_k, problem.head_dim};
    return make_tensor_map(name, tensor, problem.dtype, extents, route_box_blocks, map);
}

}  // namespace

Status launch_route(const Problem& problem, ConstTensor q, const void* high, const void* low,
                    const std::int32_t* block_base, std::int32_t* selection, float* scores, cudaStream_t stream) {
    RouteArguments arguments{};
    RouteParams& p = arguments.params;
    p.sequences = make_sequences(problem);
    p.heads_q = static_cast<std::int32_t>(problem.heads_q);
    p.heads_per_key_head = static_cast<std::int32_t>(problem.heads_q / problem.heads_k);
    p.block_shift = std::countr_zero(static_cast<std::uint32_t>(problem.block_size));
    p.slots = static_cast<std::int32_t>(problem.routed());
    p.slots_inverse = ((1u << 20) + static_cast<std::uint32_t>(p.slots) - 1) / static_cast<std::uint32_t>(p.slots);
    p.blocks_max = static_cast<std::int32_t>((problem.seqlen_k + problem.block_size - 1) / problem.block_size);
    p.block_base = block_base;
    arguments.split = low != nullptr;
    p.tokens_q = problem.tokens_q();
    p.selection = selection;
    p.scores = scores;
    if (Status s = make_tensor_map("q", q, problem.dtype, query_extents(problem), route_group_rows, arguments.queries);
        !s.ok()) {
        return s;
    }
    if (Status s = centroid_map("centroids", problem, high, arguments.high); !s.ok()) return s;
    if (Status s = centroid_map("centroids", problem, low != nullptr ? low : high, arguments.low); !s.ok()) return s;
    int device = 0;
    if (Status s = device_status(cudaGetDevice(&device), "cudaGetDevice"); !s.ok()) return s;
    if (Status s = device_status(cudaDeviceGetAttribute(&arguments.processors, cudaDevAttrMultiProcessorCount, device),
                                 "cudaDeviceGetAttribute");
        !s.ok()) {
        return s;
    }
    const int padded = static_cast<int>((problem.head_dim + 63) / 64 * 64);
    return problem.dtype == DataType::bf16 ? launch_route_kernel<__nv_bfloat16>(arguments, padded, stream)
                                           : launch_route_kernel<__half>(arguments, padded, stream);
}

}  // namespace mobalab::kernels::cuda
