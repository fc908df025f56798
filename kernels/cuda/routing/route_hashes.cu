#include "kernels/cuda/routing/route_launch.cuh"
#include "kernels/cuda/routing/route_scored.cuh"

namespace mobalab::kernels::cuda {
namespace {

/// No tensors, so no dtype and no head_dim.
template <typename List, int Groups>
using HashShape = RouteShape<0, List, Groups, Groups, 1, 0, Scoring::hashes>;

}  // namespace

Status launch_route_hashes(RouteArguments& arguments, cudaStream_t stream) {
    return launch_route_lists<void, HashShape<ShortList, 4>, HashShape<MediumList, 3>, HashShape<LongList, 2>>(
        arguments, stream);
}

Status launch_scored_hashes(const Problem& problem, RouteArguments& arguments, cudaStream_t stream) {
    return launch_score_windows<void, HashShape<ScoreStore, 2>>(problem, arguments, stream);
}

}  // namespace mobalab::kernels::cuda
