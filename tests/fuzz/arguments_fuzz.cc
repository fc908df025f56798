// libFuzzer: the first byte chooses a command, the rest is its config file. It is read, as a grid of points too, or
// refused with an InputError or FileError.

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "analysis/routing_point.h"
#include "experiments/commands/subcommands.h"
#include "experiments/points/point_grid.h"
#include "experiments/results/results_file.h"

using namespace mobalab::experiments;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) {
        return 0;
    }
    static const int file = ::memfd_create("config", 0);
    if (::ftruncate(file, 0) != 0 || ::pwrite(file, data + 1, size - 1, 0) < 0) {
        return 0;
    }
    const Subcommand& command = subcommands()[data[0] % subcommands().size()];
    try {
        const Arguments arguments = parse_arguments(command, {"--config", "/proc/self/fd/" + std::to_string(file)});
        if (arguments.has("head-dim") && arguments.has("block-size")) {
            point_grid(arguments);
        }
        arguments.settings();
    } catch (const mobalab::analysis::InputError&) {
        return 0;
    } catch (const FileError&) {
        return 0;
    }
    return 0;
}
