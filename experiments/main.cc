#include <unistd.h>

#include <iostream>

#include "experiments/cli.h"
#include "experiments/interrupt.h"

int main(int argc, char** argv) {
    mobalab::experiments::stop_on_signals();
    mobalab::experiments::Terminal terminal{std::cout, std::cerr, ::isatty(STDERR_FILENO) == 1};
    return mobalab::experiments::run_mobalab({argv + 1, argv + argc}, terminal);
}
