#include "analysis/scorer.h"

namespace mobalab::analysis {

/// The router of MoBA: the query against the mean of the keys.
extern const ScorerDefinition mean_scorer;
constexpr ScorerDefinition mean_scorer = {.name = "mean", .parts = 1, .part = {}, .divides = false};

}  // namespace mobalab::analysis
