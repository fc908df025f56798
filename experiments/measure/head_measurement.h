#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "experiments/measure/head_meter.h"
#include "experiments/measure/head_summary.h"
#include "experiments/measure/measure_plan.h"

namespace mobalab::experiments {

/// How heads are measured.
struct MeasureSettings {
    std::int64_t rows = 0;   ///< of a head, at least; 0: all
    std::uint64_t seed = 1;  ///< of scorer random
    double confidence = 0.95;
};

/// Rows [first, first + count) of a trace.
struct RowStretch {
    std::int64_t first;
    std::int64_t count;
};

/// All rows in stretches of at most `rows_a_call`; where fewer are wanted, stretches of 128 that begin at positions
/// of multiples of 128, evenly spread over the text and over places in larger blocks; or all where there are not so
/// many of them.
std::vector<RowStretch> row_stretches(std::int64_t q_start, std::int64_t queries, std::int64_t wanted,
                                      std::int64_t rows_a_call);

/// Called with the share of the head that is done.
using HeadProgress = std::function<void(double)>;

/// The settings of the trace on one head. Throws FileError, KernelError and Interrupted; analysis::InputError where a
/// number does not fit the dtype.
std::vector<MeasuredSetting> measure_head(const TracePlan& plan, std::int64_t layer, std::int64_t head,
                                          const MeasureSettings& settings, HeadMeter& meter,
                                          const HeadProgress& progress);

}  // namespace mobalab::experiments
