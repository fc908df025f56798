#include "experiments/commands/subcommands.h"

namespace mobalab::experiments {

const Commands& subcommands() {
#define MOBALAB_MAKE_COMMAND(name) name##_command(),
    static const Commands all = {MOBALAB_COMMANDS(MOBALAB_MAKE_COMMAND)};
#undef MOBALAB_MAKE_COMMAND
    return all;
}

int run_mobalab(const std::vector<std::string>& args, Terminal& terminal) {
    return run_program(subcommands(), args, terminal);
}

}  // namespace mobalab::experiments
