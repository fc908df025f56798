#include "experiments/measure/setting_groups.h"

#include <algorithm>
#include <stdexcept>

namespace mobalab::experiments {

std::vector<ScoredGroup> grouped(std::span<const RouteSetting> settings) {
    std::vector<ScoredGroup> groups;
    for (std::size_t i = 0; i < settings.size(); ++i) {
        const RouteSetting& setting = settings[i];
        auto scored = std::find_if(groups.begin(), groups.end(),
                                   [&](const ScoredGroup& group) { return group.score == setting.score; });
        if (scored == groups.end()) {
            const Router* router = find_router(setting.score.router);
            if (router == nullptr) {
                throw std::invalid_argument("measure: no router is called " + setting.score.router);
            }
            scored = groups.insert(groups.end(), {.score = setting.score, .router = router, .routed = {}});
        }
        auto routed = std::find_if(scored->routed.begin(), scored->routed.end(),
                                   [&](const RoutedGroup& group) { return group.keep_first == setting.keep_first; });
        if (routed == scored->routed.end()) {
            routed = scored->routed.insert(routed, {.keep_first = setting.keep_first, .most_topk = 0, .settings = {}});
        }
        routed->most_topk = std::max(routed->most_topk, setting.topk);
        routed->settings.push_back(i);
    }
    return groups;
}

}  // namespace mobalab::experiments
