#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "experiments/trace/trace.h"

namespace mobalab::experiments {

/// The metadata of a trace as they were read: README.md names each, with its rule.
struct TraceMetadata {
    TraceInfo info;             ///< without what only the tensors say: value_dim, queries, keys
    kernels::DataType dtype{};  ///< of q, k and v
    std::vector<std::int64_t> layers;
    bool one_layer =
        false;  ///< the file says `layer`, its tensors are `q`, `k`, `v`; else `recorded_layers` and `layers.<n>.q`
};

/// Throws FileError for what is missing, no value of its kind, or does not fit the rest.
TraceMetadata read_trace_metadata(const std::string& path, const std::map<std::string, std::string>& metadata);

/// Metadata `needles` of a text of so many tokens.
std::vector<TraceNeedle> read_needles(const std::string& path, const std::string& json, std::int64_t tokens);

}  // namespace mobalab::experiments
