#pragma once

#include <memory>

#include "experiments/trace/file_bytes.h"
#include "experiments/trace/tensor_file.h"

namespace mobalab::experiments {

// The three containers that a trace may have. Each throws FileError for a file that breaks the rules of its container.

std::unique_ptr<TensorFile> open_safetensors(FileBytes file);
std::unique_ptr<TensorFile> open_npz(FileBytes file);
std::unique_ptr<TensorFile> open_hdf5(FileBytes file);

}  // namespace mobalab::experiments
