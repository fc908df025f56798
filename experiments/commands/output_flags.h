#pragma once

#include <vector>

#include "experiments/cli/subcommand.h"
#include "experiments/results/resumable_output.h"

namespace mobalab::experiments {

/// output_flags() and --resume.
std::vector<Flag> resumable_output_flags();

/// --force and --resume of a command. Throws analysis::InputError for both, and for either without --out.
ResumableOutput::Mode output_mode(const Arguments& arguments);

}  // namespace mobalab::experiments
