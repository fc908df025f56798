#pragma once

#include <fmt/format.h>
#include <hdf5.h>

#include <string>

#include "experiments/trace/tensor_file.h"

namespace mobalab::experiments {

// For hdf5_content.cc alone: runs in the process that may crash, and leaves what it opens to the end of that process.

/// Throws std::runtime_error.
[[noreturn]] void hdf5_fail(const std::string& what);

/// Of a call that fails on damaged files only: an id, a size or a status, negative for failure.
template <typename Result>
Result hdf5_require(Result result, const char* what) {
    if (result < 0) {
        hdf5_fail(fmt::format("is a damaged HDF5 file: {} cannot be read; record or copy it again", what));
    }
    return result;
}

/// Throws std::runtime_error where the numbers of a dataset are not all in the file, or not so that they are read here.
StoredTensor describe_dataset(hid_t dataset);

}  // namespace mobalab::experiments
