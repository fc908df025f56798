#pragma once

#include <string_view>

namespace mobalab::experiments {

/// The text of kernel_times_h100.csv, which the build puts into the program.
std::string_view shipped_kernel_times();

}  // namespace mobalab::experiments
