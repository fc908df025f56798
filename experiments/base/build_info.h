#pragma once

#include <string>

namespace mobalab::experiments {

/// How this program was built.
struct BuildInfo {
    std::string version;     ///< 0.2.0
    std::string git_commit;  ///< 40 hex digits, "-dirty" behind them when files differed; "unknown" outside git
    std::string build;       ///< build type, compiler, flags, CUDA: one line
    std::string compiler;
    std::string flags;
    std::string build_type;
    std::string sanitizer;      ///< empty: none
    std::string cuda_compiler;  ///< empty: built without CUDA
    bool mpi;                   ///< mpirun can share a run among ranks
    std::string source_dir;     ///< where it was built
    std::string python;         ///< the Python with Debian's packages that was found then
};

const BuildInfo& build_info();

/// Name of the CPU and its hardware threads.
std::string cpu_name();
int cpu_threads();

}  // namespace mobalab::experiments
