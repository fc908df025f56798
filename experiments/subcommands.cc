#include "experiments/subcommands.h"

namespace mobalab::experiments {

const std::vector<Subcommand>& subcommands() {
    static const std::vector<Subcommand> all = {theory_command(),   simulate_command(), route_command(),
                                                validate_command(), bench_command(),    combine_command(),
                                                table_command(),    export_command(),   info_command()};
    return all;
}

}  // namespace mobalab::experiments
