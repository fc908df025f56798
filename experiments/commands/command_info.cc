#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <ostream>

#include "experiments/base/build_info.h"
#include "experiments/commands/subcommands.h"
#include "experiments/device/cuda_info.h"
#include "experiments/results/results_file.h"
#include "sim/simd/instruction_set.h"

namespace mobalab::experiments {
namespace {

nlohmann::ordered_json json_of(const CudaInfo& cuda) {
    auto devices = nlohmann::ordered_json::array();
    for (const CudaDevice& device : cuda.devices) {
        devices.push_back({{"name", device.name},
                           {"compute_capability", fmt::format("{}.{}", device.major, device.minor)},
                           {"memory_gib", device.memory_gib},
                           {"trouble", device.trouble}});
    }
    return {{"built", cuda.built}, {"trouble", cuda.trouble}, {"devices", devices}};
}

std::string json_text(const CudaInfo& cuda) {
    const BuildInfo& build = build_info();
    const nlohmann::ordered_json object = {{"version", build.version},
                                           {"git_commit", build.git_commit},
                                           {"build_type", build.build_type},
                                           {"compiler", build.compiler},
                                           {"flags", build.flags},
                                           {"sanitizer", build.sanitizer},
                                           {"cuda_compiler", build.cuda_compiler},
                                           {"mpi", build.mpi},
                                           {"results_schema_version", results_schema_version},
                                           {"cpu", cpu_name()},
                                           {"threads", cpu_threads()},
                                           {"simulation_instruction_set", to_string(sim::default_loops().set)},
                                           {"cuda", json_of(cuda)}};
    return object.dump(1) + "\n";
}

std::string human_text(const CudaInfo& cuda) {
    const BuildInfo& build = build_info();
    std::string text = fmt::format(
        "mobalab {}\n  commit    {}\n  build     {}{}\n  compiler  {}\n  flags     {}\n  mpi       {}\n  results   "
        "schema version {}\n"
        "  cpu       {}, {} thread{}; the simulation runs on {}\n",
        build.version, build.git_commit, build.build_type,
        build.sanitizer.empty() ? "" : ", sanitizer " + build.sanitizer, build.compiler, build.flags,
        build.mpi ? "built in: mpirun shares a run among machines" : "built without", results_schema_version,
        cpu_name(), cpu_threads(), cpu_threads() == 1 ? "" : "s", to_string(sim::default_loops().set));
    if (!cuda.trouble.empty()) {
        text += fmt::format("  cuda      none: {}\n", cuda.trouble);
    }
    for (const CudaDevice& device : cuda.devices) {
        text += fmt::format("  cuda      {}, sm_{}{}, {:.0f} GiB, {}\n", device.name, device.major, device.minor,
                            device.memory_gib,
                            device.trouble.empty() ? "runs this build's kernels" : "unusable: " + device.trouble);
    }
    return text;
}

int run_info(const Arguments& arguments, Terminal& terminal) {
    const CudaInfo cuda = cuda_info();
    terminal.out << (arguments.on("json") ? json_text(cuda) : human_text(cuda));
    return exit_ok;
}

}  // namespace

Subcommand info_command() {
    return {
        "info",
        "version, build, devices",
        "What this program is and what it can run on: the version, commit and flags it was built with, the CPU, and "
        "every CUDA device with the result of running a kernel on it.",
        json_flag(),
        {{"info", "everything, for people"},
         {"info --json", "the same as one JSON object, to keep beside measurements"}},
        "",
        run_info};
}

}  // namespace mobalab::experiments
