#include "analysis/scorer.h"

namespace mobalab::analysis {

/// The query against the largest value of each channel.
extern const ScorerDefinition max_scorer;
constexpr ScorerDefinition max_scorer = {
    .name = "max", .parts = 1, .part = {{{QueryMap::identity, Summary::maximum}}}, .divides = false};

}  // namespace mobalab::analysis
