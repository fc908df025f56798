#include <fcntl.h>
#include <unistd.h>

#include <iostream>

#include "experiments/base/interrupt.h"
#include "experiments/commands/subcommands.h"
#include "experiments/ranks/ranks.h"

namespace {

/// A closed stdin, stdout or stderr would be the number of the next file opened, and a table end up in it.
void keep_standard_streams_apart() {
    for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; ++descriptor) {
        if (::fcntl(descriptor, F_GETFD) < 0) {
            ::open("/dev/null", O_RDONLY);  // takes the lowest free number; what is written there is still an error
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    keep_standard_streams_apart();
    mobalab::experiments::stop_on_signals();
    mobalab::experiments::Terminal terminal{std::cout, std::cerr, ::isatty(STDERR_FILENO) == 1};
    const std::vector<std::string> args(argv + 1, argv + argc);
    const int code = mobalab::experiments::run_on_ranks(
        [&](mobalab::experiments::Terminal& own) { return mobalab::experiments::run_mobalab(args, own); }, terminal);
    return mobalab::experiments::end_by_signal(code);
}
