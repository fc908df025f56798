#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "experiments/measure/head_outcomes.h"
#include "experiments/measure/router.h"

namespace mobalab::experiments {

/// Settings that differ in topk alone. A selection is best first, so that of the largest topk holds all others.
struct RoutedGroup {
    bool keep_first = false;
    std::int64_t most_topk = 0;
    std::vector<std::size_t> settings;  ///< places in the list of settings
};

/// Settings whose blocks have the same scores.
struct ScoredGroup {
    ScoreSetting score;
    const Router* router = nullptr;
    std::vector<RoutedGroup> routed;
};

/// In order of their first settings. Throws std::invalid_argument for a router that does not exist.
std::vector<ScoredGroup> grouped(std::span<const RouteSetting> settings);

}  // namespace mobalab::experiments
