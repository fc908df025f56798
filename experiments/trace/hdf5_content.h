#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace mobalab::experiments {

// What the HDF5 library says of a foreign file. It can crash and hang on damaged ones, so these run in a process of
// their own (in_child.h), which ends with its handles open. Both throw std::runtime_error whose message begins with
// `shown_path`.

/// {"tensors": {name: {"type": ElementType, "type_name", "element_bytes", "shape"}}, "metadata": {name: text}}: the
/// datasets of the root group and its attributes.
///
/// Refused: links that lead out of the file, datasets whose numbers lie elsewhere (external, virtual) or were never
/// written, filters other than gzip, shuffle and fletcher32, chunks above 1 GiB, attributes that are no single string.
nlohmann::json hdf5_content(const std::string& path, const std::string& shown_path);

/// The bytes of [rows, dim] of a dataset [rows, heads, dim], as the file has them.
std::string hdf5_head(const std::string& path, const std::string& shown_path, const std::string& dataset,
                      std::int64_t head);

}  // namespace mobalab::experiments
