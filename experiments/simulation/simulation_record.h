#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sim/engine/conditional.h"
#include "sim/engine/engine.h"

namespace mobalab::experiments {

/// How far the simulation of one point has come.
struct PointProgress {
    sim::Progress progress;
    bool finished = false;
    sim::StopReason reason = sim::StopReason::interrupted;  ///< why it finished
    sim::ConditionalSampler::Sums weighted = {};            ///< of method conditional, which counts no misses
};

/// One line of JSON, for the journal.
std::string record_of(const PointProgress& point);

/// Inverse of record_of. Throws FileError when it is not one.
PointProgress parse_record(const std::string& record);

/// The journal's records as one entry a point; points without a record have not begun.
std::vector<PointProgress> parse_records(const std::map<std::int64_t, std::string>& records, std::size_t points);

}  // namespace mobalab::experiments
