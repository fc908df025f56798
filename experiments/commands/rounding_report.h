#pragma once

#include <cstdint>
#include <vector>

#include "analysis/routing_point.h"
#include "experiments/results/results_file.h"
#include "experiments/results/table_text.h"

namespace mobalab::experiments {

/// What `validate --shared-mean` adds to a point: shared_mean and what theory expects (rounding_columns()), and what
/// the CPU kernel changes, measured_bf16, measured_bf16_low, measured_bf16_high and the same of fp16
/// (measure_rounding()). Throws Interrupted.
std::vector<Column> measured_rounding_columns(const std::vector<analysis::RoutingPoint>& points, double shared_mean,
                                              std::uint64_t seed, int threads, double confidence);

/// These columns as people read them.
std::vector<ShownColumn> measured_rounding_answers();

}  // namespace mobalab::experiments
