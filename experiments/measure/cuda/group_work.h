#pragma once

#include <cstdint>
#include <vector>

#include "experiments/measure/cuda/device_head.h"
#include "experiments/measure/setting_groups.h"

namespace mobalab::experiments::cuda {

/// What ranks the blocks of a router that no kernel routes for.
enum class Reference {
    none,       ///< a scorer of the kernels
    position,   ///< window
    cumulant,   ///< cum2
    mass,       ///< oracle
    not_there,  ///< a router that has no code here
};
Reference reference_of(const Router& router);

/// What the rows of one setting come to, on the device; [rows] each.
struct SettingColumns {
    std::size_t setting = 0;  ///< place in the list of settings
    std::int32_t slots = 0;
    StreamArray<float> routed_mass, routed_mass_no0;
    StreamArray<float> margin;        ///< of scored routers
    StreamArray<std::int8_t> differ;  ///< where means were rounded
};

/// Settings that differ in topk alone.
struct RoutedWork {
    bool keep_first = false;
    std::int32_t slots = 0;               ///< of the largest topk
    StreamArray<std::int32_t> selection;  ///< [rows, slots]; a reference router's is filled window by window
    std::vector<SettingColumns> settings;
};

/// Settings whose blocks have the same scores.
struct GroupWork {
    GroupWork(const ScoredGroup& group, std::span<const RouteSetting> settings, const DeviceHead& head,
              cudaStream_t stream);

    ScoreSetting score;
    const Router* router;
    Reference reference;
    bool rounded;  ///< what the scorer keeps is rounded to the dtype: RowOutcomes::rounding_changed is there
    bool means;    ///< and these are means, so that rounding changes them
    DeviceSummaries summaries, unrounded;
    std::vector<RoutedWork> routed;

    // Of scored routers.
    StreamArray<float> deviation, needle_score, mass_score, mass_score_squared;  // [rows]
    StreamArray<double> distance_sums;                                           // [blocks + 1]
};

}  // namespace mobalab::experiments::cuda
