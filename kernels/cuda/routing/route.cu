#include "kernels/cuda/routing/route.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <bit>

#include "kernels/cuda/host/limits.h"
#include "kernels/cuda/host/score_path.h"
#include "kernels/cuda/host/status.h"
#include "kernels/cuda/host/tensor_map.h"
#include "kernels/cuda/routing/first_block.h"
#include "kernels/cuda/routing/route_launch.h"
#include "kernels/cuda/routing/route_scored.h"
#include "kernels/cuda/routing/score_windows.h"

namespace mobalab::kernels::cuda {
namespace {

Status centroid_map(const char* name, const Problem& problem, const void* centroids, CUtensorMap& map) {
    const std::int64_t parts = find_scorer(problem.scorer.kind)->parts;
    const ConstTensor tensor = {centroids, 0, parts * problem.heads_k * problem.head_dim, problem.head_dim};
    const MapExtents extents = {1, problem.sub_blocks(), problem.heads_k, problem.head_dim};
    return make_tensor_map(name, tensor, problem.dtype, extents, route_box_blocks, map);
}

Status make_maps(const Problem& problem, ConstTensor q, const void* high, const void* low, RouteArguments& arguments) {
    if (Status s = make_tensor_map("q", q, problem.dtype, query_extents(problem), route_group_rows, arguments.queries);
        !s.ok()) {
        return s;
    }
    if (Status s = centroid_map("centroids", problem, high, arguments.high); !s.ok()) return s;
    return centroid_map("centroids", problem, low != nullptr ? low : high, arguments.low);
}

template <typename T>
Status launch_path(ScorePath path, RouteArguments& arguments, const Problem& problem, bool split, cudaStream_t stream) {
    const int padded = static_cast<int>((problem.head_dim + 63) / 64 * 64);
    if (problem.scored() > most_listed_slots) {
        if (path == ScorePath::ranges) return launch_scored_ranges<T>(problem, arguments, padded, stream);
        if (path == ScorePath::sub_blocks) return launch_scored_sub_blocks<T>(problem, arguments, padded, stream);
        return launch_scored_products<T>(problem, arguments, padded, split, stream);
    }
    if (path == ScorePath::ranges) return launch_route_ranges<T>(arguments, padded, stream);
    if (path == ScorePath::sub_blocks) return launch_route_sub_blocks<T>(arguments, padded, stream);
    return launch_route_products<T>(arguments, padded, split, stream);
}

}  // namespace

Status launch_route(const Problem& problem, ConstTensor q, const void* high, const void* low,
                    const std::int32_t* block_base, float* stored, std::int32_t* selection, float* scores,
                    cudaStream_t stream) {
    if (problem.scored() == 0 || problem.tokens_k() == 0) {
        if (Status s = check_rows_aligned("q", q); !s.ok()) return s;
        return launch_first_block(problem, selection, scores, stream);
    }
    const ScorePath path = score_path(problem.scorer);
    RouteArguments arguments{};
    RouteParams& p = arguments.params;
    p.sequences = make_sequences(problem);
    p.heads_q = static_cast<std::int32_t>(problem.heads_q);
    p.heads_per_key_head = static_cast<std::int32_t>(problem.heads_q / problem.heads_k);
    p.blocks = Candidates(problem);
    const std::int64_t blocks_of_rows = (route_warp_rows - 1 + problem.block_size - 1) / problem.block_size;
    p.ragged = static_cast<std::int32_t>((blocks_of_rows - 1) * problem.scorer.sub_blocks);
    p.slots = static_cast<std::int32_t>(problem.scored());
    p.slots_inverse = ((1u << 20) + static_cast<std::uint32_t>(p.slots) - 1) / static_cast<std::uint32_t>(p.slots);
    p.first_block = problem.keep_first ? 1 : 0;
    p.columns_max = static_cast<std::int32_t>(problem.longest_blocks() * problem.scorer.sub_blocks);
    p.column_base = block_base;
    p.tokens_q = problem.tokens_q();
    p.selection = selection;
    p.scores = scores;
    p.all_scores = stored;
    p.seed = problem.scorer.seed;
    p.sub_shift = std::countr_zero(static_cast<std::uint32_t>(problem.scorer.sub_blocks));
    int device = 0;
    if (Status s = device_status(cudaGetDevice(&device), "cudaGetDevice"); !s.ok()) return s;
    if (Status s = device_status(cudaDeviceGetAttribute(&arguments.processors, cudaDevAttrMultiProcessorCount, device),
                                 "cudaDeviceGetAttribute");
        !s.ok()) {
        return s;
    }
    if (path == ScorePath::hashes) {
        if (Status s = check_rows_aligned("q", q); !s.ok()) return s;
        return problem.scored() > most_listed_slots ? launch_scored_hashes(problem, arguments, stream)
                                                    : launch_route_hashes(arguments, stream);
    }
    if (Status s = make_maps(problem, q, high, low, arguments); !s.ok()) return s;
    const bool split = low != nullptr;
    return problem.dtype == DataType::bf16 ? launch_path<__nv_bfloat16>(path, arguments, problem, split, stream)
                                           : launch_path<__half>(path, arguments, problem, split, stream);
}

}  // namespace mobalab::kernels::cuda
