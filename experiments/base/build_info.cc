#include "experiments/base/build_info.h"

#include <fmt/format.h>

#include <fstream>
#include <thread>

#include "build_config.h"
#include "git_commit.h"

namespace mobalab::experiments {
namespace {

BuildInfo make_build_info() {
    BuildInfo info;
    info.version = MOBALAB_VERSION;
    info.git_commit = MOBALAB_GIT_COMMIT;
    info.compiler = MOBALAB_COMPILER;
    info.flags = MOBALAB_FLAGS;
    info.build_type = MOBALAB_BUILD_TYPE;
    info.sanitizer = MOBALAB_SANITIZER;
    info.cuda_compiler = MOBALAB_CUDA_COMPILER;
    info.mpi = std::string(MOBALAB_HAVE_MPI) == "ON";
    info.source_dir = MOBALAB_SOURCE_DIR;
    info.python = MOBALAB_PYTHON;
    info.build = fmt::format("{}, {}, {}{}{}", info.build_type, info.compiler, info.flags,
                             info.cuda_compiler.empty() ? ", without CUDA" : ", CUDA " + info.cuda_compiler,
                             info.sanitizer.empty() ? "" : ", sanitizer " + info.sanitizer);
    return info;
}

}  // namespace

const BuildInfo& build_info() {
    static const BuildInfo info = make_build_info();
    return info;
}

std::string cpu_name() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        const std::size_t colon = line.find(": ");
        if (line.starts_with("model name") && colon != std::string::npos) {
            return line.substr(colon + 2);
        }
    }
    return "unknown CPU";
}

int cpu_threads() {
    return static_cast<int>(std::thread::hardware_concurrency());
}

}  // namespace mobalab::experiments
