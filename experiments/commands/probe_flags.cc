#include "experiments/commands/probe_flags.h"

#include <fmt/format.h>

#include "experiments/base/this_rank.h"
#include "experiments/commands/output_flags.h"
#include "experiments/points/point_grid.h"
#include "experiments/probe/socket_router.h"
#include "experiments/results/resumable_output.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;

// Throws InputError for what only a kernel can do.
void check_router(const Arguments& arguments) {
    if (arguments.given("device")) {
        throw InputError("router, device: --device chooses a kernel and --router takes its place; give one of the two");
    }
    if (this_rank().ranks > 1) {
        throw InputError(
            fmt::format("router: answers one process, here are {} ranks; run it without mpirun", this_rank().ranks));
    }
}

}  // namespace

std::vector<Flag> probe_flags() {
    return std::vector<Flag>{{"model", "LIST", "sphere",
                              "keys the kernel is probed with: sphere (independent unit keys) or text (keys along a "
                              "text, in the order and with the RoPE of a trained model)"}} +
           point_flags_without({"model", "mu-noise"}) + text_flags() + scorer_flags() + device_flags() +
           std::vector<Flag>{
               {"probes", "N", "32768", "probes a point, over all its key sets"},
               {"key-sets", "N", "0", "independent sets of keys; 0 chooses so many that probes hardly share keys"},
               {"confidence", "P", "0.95", "confidence of the intervals"},
               {"router", "PATH", "",
                "route in another process that listens on this Unix socket, instead of a kernel "
                "(experiments/probe/socket_router.h; Python: mobalab.route(router=...))"}} +
           engine_flags("1") + resumable_output_flags() + progress_flag() + table_flags();
}

DeviceDemand probe_demand(const Arguments& arguments) {
    return {kernels::Operation::route_with_centroids, [&arguments](kernels::DataType dtype) {
                std::vector<kernels::Problem> problems;
                for (const analysis::RoutingPoint& point : point_grid(arguments)) {
                    problems.push_back(problem_of(probe_shape(point, dtype, 0), 1));
                    problems.back().topk = point.topk;
                }
                return problems;
            }};
}

int run_on_device(const Arguments& arguments, Terminal& terminal, ProbeCommand* run) {
    const int threads = worker_threads(arguments);
    if (arguments.given("router")) {
        check_router(arguments);
        return run(resolve_device(arguments, probe_demand(arguments), terminal).with("device", "router"), terminal,
                   *socket_router(arguments.text("router")));
    }
    const Arguments resolved = resolve_device(arguments, probe_demand(arguments), terminal);
    return run(resolved, terminal, *kernel_for_device(resolved.text("device"), threads));
}

ProbeSettings probe_settings(const Arguments& arguments) {
    ProbeSettings settings;
    settings.dtype = dtype_of(arguments);
    settings.trials = arguments.integer("probes", 2, std::int64_t{1} << 40U);
    settings.key_sets = arguments.integer("key-sets", 0, settings.trials / 2);
    settings.seed = static_cast<std::uint64_t>(arguments.integer("seed", 0));
    settings.threads = worker_threads(arguments);
    settings.best_first = !arguments.given("router");
    return settings;
}

double interval_confidence(const Arguments& arguments) {
    return arguments.real("confidence", 0.5, 1.0 - 1e-12);
}

Results probe_results(const std::string& subcommand, const std::string& task,
                      const std::vector<analysis::RoutingPoint>& points, const ProbeSettings& settings,
                      const KernelUnderTest& kernel, const Arguments& arguments) {
    std::string text = fmt::format("{}\nschema={}\nseed={}\ndtype={}\nprobes={}\nkey_sets={}\ndevice={}\n{}\n",
                                   subcommand, results_schema_version, settings.seed, to_string(settings.dtype),
                                   settings.trials, settings.key_sets, kernel.device(), task);
    for (const analysis::RoutingPoint& point : points) {
        text += fmt::format("{};seq_len={}\n", analysis::canonical_text(point), point.seq_len);
    }
    Results results = new_results(subcommand);
    results.task = task_id(text);
    results.command = arguments.command_line();
    results.settings = arguments.settings();
    results.seed = settings.seed;
    results.device = fmt::format("{} ({})", kernel.device(), kernel.processor());
    return results;
}

}  // namespace mobalab::experiments
