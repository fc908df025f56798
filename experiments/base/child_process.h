#pragma once

#include <string>
#include <vector>

#include "experiments/base/terminal.h"

namespace mobalab::experiments {

/// Runs arguments[0] (a path, or a name looked up in PATH) with the rest, environment plus `variables` ("NAME=value",
/// these win), and hands its output over as it comes: stdout to terminal.out, stderr to terminal.err.
///
/// Returns the exit code, or 128 + the signal that ended it. Throws std::system_error when it cannot be started.
int run_child(const std::vector<std::string>& arguments, const std::vector<std::string>& variables, Terminal& terminal);

}  // namespace mobalab::experiments
