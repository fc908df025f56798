#include "experiments/measure/router.h"

#include <algorithm>

#include "experiments/measure/routers/routers.h"

namespace mobalab::experiments {

#define MOBALAB_DECLARE_ROUTER(name) extern const Router name##_router;
MOBALAB_REFERENCE_ROUTERS(MOBALAB_DECLARE_ROUTER)
#undef MOBALAB_DECLARE_ROUTER

namespace {

std::vector<Router> all_routers() {
    std::vector<Router> all;
    for (int number = 0;; ++number) {
        const auto kind = static_cast<kernels::ScorerKind>(number);
        const kernels::ScorerDefinition* scorer = kernels::find_scorer(kind);
        if (scorer == nullptr) {
            break;
        }
        all.push_back({.name = scorer->name, .scorer = kind, .scored = scorer->parts > 0});
    }
#define MOBALAB_ADD_ROUTER(name) all.push_back(name##_router);
    MOBALAB_REFERENCE_ROUTERS(MOBALAB_ADD_ROUTER)
#undef MOBALAB_ADD_ROUTER
    return all;
}

}  // namespace

const std::vector<Router>& routers() {
    static const std::vector<Router> all = all_routers();
    return all;
}

const Router* find_router(std::string_view name) {
    const auto found =
        std::find_if(routers().begin(), routers().end(), [&](const Router& router) { return router.name == name; });
    return found == routers().end() ? nullptr : &*found;
}

}  // namespace mobalab::experiments
