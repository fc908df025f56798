// A build without MPI.

#include <cstdlib>
#include <ostream>
#include <string>

#include "experiments/ranks/ranks.h"

namespace mobalab::experiments {

int run_on_ranks(const std::function<int(Terminal&)>& run, Terminal& terminal) {
    const char* ranks = std::getenv("OMPI_COMM_WORLD_SIZE");
    if (ranks == nullptr || std::string(ranks) == "1") {
        return run(terminal);
    }
    const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
    if (rank == nullptr || std::string(rank) == "0") {
        terminal.err << "mobalab: error: started by mpirun with " << ranks
                     << " ranks, but built without MPI; run it without mpirun, or build it where libopenmpi-dev is\n";
    }
    return exit_error;
}

}  // namespace mobalab::experiments
