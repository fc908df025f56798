#pragma once

#include <functional>
#include <optional>
#include <string>

#include "experiments/base/terminal.h"

namespace mobalab::experiments {

/// Runs the program as one rank of an `mpirun`, or alone when this process was not started by one: then MPI is not even
/// initialised. Rank 0 talks to `terminal` and its exit code is the run's; the others are silent and end with 0.
/// Each rank of a host gets a share of its cores and its own CUDA device. When a rank was lost or a signal came this
/// ends the process without saying farewell to the others, who may be gone.
int run_on_ranks(const std::function<int(Terminal&)>& run, Terminal& terminal);

/// What CUDA_VISIBLE_DEVICES must be so that the ranks of a host take turns over its devices. `visible`: its present
/// value, nullptr when unset; `devices`: how many the host has. Nothing when there is no choice.
std::optional<std::string> device_of_rank(const char* visible, int devices, int local_rank);

}  // namespace mobalab::experiments
