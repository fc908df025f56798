#include "kernels/scorer.h"

#include <cstddef>
#include <iterator>

namespace mobalab::kernels {

#define MOBALAB_DECLARE_SCORER(name) extern const ScorerDefinition name##_scorer;
MOBALAB_SCORERS(MOBALAB_DECLARE_SCORER)
#undef MOBALAB_DECLARE_SCORER

const ScorerDefinition* find_scorer(ScorerKind kind) {
#define MOBALAB_SCORER_ADDRESS(name) &name##_scorer,
    static constexpr const ScorerDefinition* all[] = {MOBALAB_SCORERS(MOBALAB_SCORER_ADDRESS)};
#undef MOBALAB_SCORER_ADDRESS
    const auto number = static_cast<std::size_t>(kind);
    return number < std::size(all) ? all[number] : nullptr;
}

std::int64_t parts_of(ScorerKind kind) {
    const ScorerDefinition* definition = find_scorer(kind);
    return definition == nullptr ? 0 : definition->parts;
}

}  // namespace mobalab::kernels
