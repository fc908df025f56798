#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "experiments/trace/tensor_file.h"
#include "experiments/trace/trace_metadata.h"

namespace mobalab::experiments {

/// "q", or "layers.5.q"; letter: q, k or v.
std::string tensor_name(bool layers_in_names, std::int64_t layer, char letter);

/// The tensors of a file against its metadata; fills in queries, keys and value_dim, which only the tensors say. Throws
/// FileError for a tensor that is missing, has another shape or dtype, or is named like one of a layer that the file
/// does not say it has.
void check_tensors(const std::string& path, const std::map<std::string, StoredTensor>& tensors, TraceMetadata& trace);

}  // namespace mobalab::experiments
