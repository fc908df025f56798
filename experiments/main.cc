#include <unistd.h>

#include <iostream>

#include "experiments/cli.h"
#include "experiments/interrupt.h"
#include "experiments/ranks.h"

int main(int argc, char** argv) {
    mobalab::experiments::stop_on_signals();
    mobalab::experiments::Terminal terminal{std::cout, std::cerr, ::isatty(STDERR_FILENO) == 1};
    const std::vector<std::string> args(argv + 1, argv + argc);
    return mobalab::experiments::run_on_ranks(
        [&](mobalab::experiments::Terminal& own) { return mobalab::experiments::run_mobalab(args, own); }, terminal);
}
