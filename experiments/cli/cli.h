#pragma once

#include <string>
#include <vector>

#include "experiments/cli/subcommand.h"

namespace mobalab::experiments {

/// Every `mobalab <name>`, in the order of the help.
using Commands = std::vector<Subcommand>;

/// The whole program: args without argv[0]. Results go to terminal.out; every error is written to terminal.err as
/// "mobalab <command>: error: ..." lines. Returns the exit code.
int run_program(const Commands& commands, const std::vector<std::string>& args, Terminal& terminal);

/// Help of one command, of the program (`mobalab --help`), and the text of --version.
std::string help_of(const Subcommand& command);
std::string help_of_program(const Commands& commands);
std::string version_text();

/// Parses args (without the command's name) and the config file they name. Throws analysis::InputError.
Arguments parse_arguments(const Subcommand& command, const std::vector<std::string>& args);

}  // namespace mobalab::experiments
