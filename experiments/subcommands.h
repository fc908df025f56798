#pragma once

#include "experiments/subcommand.h"

namespace mobalab::experiments {

// One function a command_<name>.cc.
Subcommand theory_command();
Subcommand simulate_command();
Subcommand route_command();
Subcommand validate_command();
Subcommand bench_command();
Subcommand combine_command();
Subcommand table_command();
Subcommand export_command();
Subcommand info_command();

}  // namespace mobalab::experiments
