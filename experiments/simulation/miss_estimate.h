#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "analysis/routing_point.h"
#include "experiments/simulation/simulation_record.h"
#include "sim/engine/engine.h"
#include "sim/samplers/method.h"

namespace mobalab::experiments {

/// What a finished point says about its miss probability.
struct MissEstimate {
    std::int64_t trials;
    std::optional<std::int64_t> misses;  ///< none: the method counts no trials
    double miss;
    double low;
    double high;
};

MissEstimate miss_estimate(const analysis::RoutingPoint& point, sim::Method method, const PointProgress& progress,
                           double confidence);

/// How miss, low and high are meant, for all methods.
std::string miss_definition();
std::string interval_definition(double confidence);

/// Runs a point by a method that counts no trials, conditional or exact: short, on one thread, without checkpoints.
PointProgress estimate_without_counts(const analysis::RoutingPoint& point, sim::Method method,
                                      const sim::Budget& budget);

}  // namespace mobalab::experiments
