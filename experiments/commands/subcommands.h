#pragma once

#include <string>
#include <vector>

#include "experiments/cli/cli.h"

namespace mobalab::experiments {

/// The commands, in the order of the help. A new one is a file commands/command_<name>.cc that defines
/// `Subcommand <name>_command()`, and its name here.
#define MOBALAB_COMMANDS(X) \
    X(theory)               \
    X(simulate)             \
    X(route) X(validate) X(measure) X(advise) X(training) X(bench) X(audit) X(combine) X(table) X(export) X(info)

#define MOBALAB_DECLARE_COMMAND(name) Subcommand name##_command();
MOBALAB_COMMANDS(MOBALAB_DECLARE_COMMAND)
#undef MOBALAB_DECLARE_COMMAND

const Commands& subcommands();

/// run_program() with these commands.
int run_mobalab(const std::vector<std::string>& args, Terminal& terminal);

}  // namespace mobalab::experiments
