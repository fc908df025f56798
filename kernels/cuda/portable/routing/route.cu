#include "kernels/cuda/portable/routing/route.h"

#include "kernels/cuda/host/limits.h"
#include "kernels/cuda/host/score_path.h"
#include "kernels/cuda/portable/routing/route_launch.h"
#include "kernels/cuda/routing/first_block.h"
#include "kernels/cuda/routing/route_params.h"
#include "kernels/cuda/routing/score_windows.h"

namespace mobalab::kernels::cuda::portable {
namespace {

constexpr int longest_short_list = 15;

int padded_head_dim(const Problem& problem) {
    return problem.head_dim <= 64 ? 64 : problem.head_dim <= 128 ? 128 : 256;
}

/// high and low: see routing/route.h.
void describe_summaries(const Problem& problem, const void* high, const void* low, RouteParams& params) {
    constexpr std::int64_t element_bytes = 2;
    params.summaries[0] = static_cast<const char*>(high);
    params.summaries[1] = static_cast<const char*>(low);
    params.parts = low != nullptr ? 2 : 1;
    params.by_sign = score_path(problem.scorer) == ScorePath::ranges;
    const std::int64_t parts_in_memory = find_scorer(problem.scorer.kind)->parts;
    params.column_bytes = parts_in_memory * problem.heads_k * problem.head_dim * element_bytes;
    params.total_columns = static_cast<std::int32_t>(problem.sub_blocks());
}

}  // namespace

Status launch_route(const Problem& problem, ConstTensor q, const void* high, const void* low,
                    const std::int32_t* block_base, float* stored, std::int32_t* selection, float* scores,
                    cudaStream_t stream) {
    if (Status s = check_rows_aligned("q", q); !s.ok()) return s;
    if (problem.scored() == 0 || problem.tokens_k() == 0) {
        return launch_first_block(problem, selection, scores, stream);
    }
    RouteParams params;
    params.of_path = make_route_params(problem, block_base, stored, selection, scores);
    params.queries = rows_of(q);
    params.chunks = static_cast<std::int32_t>(problem.head_dim / 8);
    params.bf16 = problem.dtype == DataType::bf16;
    int padded = 0;
    if (score_path(problem.scorer) != ScorePath::hashes) {
        describe_summaries(problem, high, low, params);
        padded = padded_head_dim(problem);
    }
    if (problem.scored() <= longest_short_list) return launch_route_short(params, padded, stream);
    if (problem.scored() <= most_listed_slots) return launch_route_long(params, padded, stream);
    return launch_route_scored(problem, params, padded, stream);
}

}  // namespace mobalab::kernels::cuda::portable
