#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "experiments/measure/head_outcomes.h"
#include "experiments/trace/trace.h"

namespace mobalab::experiments {

/// What `measure` is asked for, before a trace is looked at.
struct MeasureRequest {
    std::vector<std::int64_t> block_sizes;
    std::vector<std::int64_t> topks;    ///< own block included
    std::vector<std::int64_t> budgets;  ///< keys a query attends to: topk = budget / block size
    std::vector<std::string> scorers;   ///< router_names(), `submean-R` with its sub-blocks
    std::vector<bool> keep_first;
    std::optional<kernels::DataType> dtype;  ///< of the tensors; none: each trace's own
    kernels::Centroids centroids = kernels::Centroids::input_dtype;
    std::vector<std::int64_t> layers;  ///< empty: all of the trace
    std::vector<std::int64_t> heads;   ///< empty: all of the trace
    bool skip_impossible = false;
};

/// One trace and what is measured on it.
struct TracePlan {
    Trace trace;
    kernels::DataType dtype;             ///< tensors are rounded to it
    std::vector<RouteSetting> settings;  ///< block size, topk, scorer, keep_first, the last varying fastest
    std::vector<std::int64_t> layers;
    std::vector<std::int64_t> heads;
};

/// One head of a layer: what is done, and written down, at once.
struct MeasureUnit {
    std::size_t trace;
    std::int64_t layer;
    std::int64_t head;
};

struct MeasurePlan {
    std::vector<TracePlan> traces;
    std::vector<MeasureUnit> units;  ///< trace, layer, head
    std::int64_t left_out = 0;       ///< impossible settings, added over traces
    std::string first_left_out;      ///< the rule the first of them breaks
};

/// "mean", "submean-4", "cum2", ...: what --scorer takes, for the help.
std::string router_names();

/// Of a ScoreSetting, as --scorer takes it.
std::string scorer_text(const ScoreSetting& setting);

/// Opens the traces. Throws FileError for a file, and analysis::InputError naming value, rule and nearest valid choice:
/// an unknown scorer, a layer or head that a trace has not, a setting that cannot be (unless skip_impossible leaves
/// some): a budget of no whole blocks, sub-blocks that do not divide a block, topk above the number of blocks, blocks
/// so large that no row has a candidate.
MeasurePlan plan_measurement(const std::vector<std::string>& paths, const MeasureRequest& request);

}  // namespace mobalab::experiments
