#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "analysis/routing_point.h"
#include "experiments/results/unit_journal.h"
#include "sim/engine/engine.h"

namespace mobalab::experiments {

struct SimulatedMisses {
    std::uint64_t trials = 0;
    std::uint64_t misses = 0;
};

struct SimulationSettings {
    std::uint64_t trials = 0;  ///< a point; 0: as many as take about `core_seconds` of one core, wherever they run
    double core_seconds = 0.1;
    double text_core_seconds = 0.1;  ///< the same of points of model text, whose trials draw whole texts
    std::uint64_t seed = 1;
    int threads = 0;
    sim::Device device =
        sim::Device::cpu;  ///< cuda: points that no CUDA kernel draws are drawn on the CPU all the same
};

/// Whether the point exists under its model (the normal models have no keys that scorers other than mean could look
/// at).
bool can_be_simulated(const analysis::RoutingPoint& point);

/// Simulates every point that can be; others get no trials. Points that differ only in topk see the same trials and
/// share one run; what a point gets does not depend on the other points. Finished runs are found in and added to
/// `journal` from `first_unit` on. Throws analysis::InputError and Interrupted.
std::vector<SimulatedMisses> simulate_points(const std::vector<analysis::RoutingPoint>& points,
                                             const SimulationSettings& settings, UnitJournal& journal,
                                             std::int64_t first_unit,
                                             const std::function<void(double, const std::string&)>& progress);

}  // namespace mobalab::experiments
