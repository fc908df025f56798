#pragma once

#include <string>

namespace mobalab::experiments {

/// What this process is in an `mpirun`; alone, these defaults. Set by run_on_ranks() (experiments/ranks/ranks.h) before
/// the program starts, and the task by the command line before its command does.
struct ThisRank {
    int ranks = 1;
    int own_cores = 0;   ///< cores of this process's share of its host; 0: all of them
    bool helps = false;  ///< works for rank 0: writes no file and prints nothing
    std::string task;    ///< what the program was asked for; every rank must have been asked for the same
};

ThisRank& this_rank();

}  // namespace mobalab::experiments
