#include "analysis/scorer.h"

namespace mobalab::analysis {

/// The best of a block's r sub-blocks, each scored by the mean of its B / r keys; r = B: the largest single affinity.
extern const ScorerDefinition submean_scorer;
constexpr ScorerDefinition submean_scorer = {.name = "submean", .parts = 1, .part = {}, .divides = true};

}  // namespace mobalab::analysis
