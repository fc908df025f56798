#include "kernels/cuda/pooling/summaries.h"

#include "kernels/cuda/pooling/extremes.h"

namespace mobalab::kernels::cuda {

Status launch_summaries(const Problem& problem, ConstTensor k, const std::int32_t* block_base, CentroidOutput out,
                        cudaStream_t stream) {
    const ScorerDefinition& definition = *find_scorer(problem.scorer.kind);
    if (definition.parts == 0) return {};
    if (definition.part[0].summary == Summary::mean) return launch_centroids(problem, k, block_base, out, stream);
    const auto place_of = [&](Summary summary) -> void* {
        if (definition.part[0].summary == summary) return out.high;
        return definition.parts > 1 && definition.part[1].summary == summary ? out.low : nullptr;
    };
    return launch_extremes(problem, k, block_base, place_of(Summary::maximum), place_of(Summary::minimum), stream);
}

}  // namespace mobalab::kernels::cuda
