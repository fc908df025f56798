#include "kernels/cuda/host/score_path.h"

namespace mobalab::kernels::cuda {
namespace {

bool is_part(const ScorePart& part, QueryMap map, Summary summary) {
    return part.map == map && part.summary == summary;
}

}  // namespace

ScorePath score_path(const Scorer& scorer) {
    const ScorerDefinition& definition = *find_scorer(scorer.kind);
    if (definition.parts == 0) return ScorePath::hashes;
    if (definition.parts == 1 && definition.part[0].map == QueryMap::identity) {
        return scorer.sub_blocks > 1 ? ScorePath::sub_blocks : ScorePath::products;
    }
    const bool ranges = definition.parts == 2 && !definition.divides &&
                        is_part(definition.part[0], QueryMap::positive_part, Summary::maximum) &&
                        is_part(definition.part[1], QueryMap::negative_part, Summary::minimum);
    return ranges ? ScorePath::ranges : ScorePath::none;
}

}  // namespace mobalab::kernels::cuda
