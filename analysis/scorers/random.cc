#include "analysis/scorer.h"

namespace mobalab::analysis {

/// Looks at nothing: what chance alone finds, the control of every comparison.
extern const ScorerDefinition random_scorer;
constexpr ScorerDefinition random_scorer = {.name = "random", .parts = 0, .part = {}, .divides = false};

}  // namespace mobalab::analysis
