#include "experiments/probe_flags.h"

#include <fmt/format.h>

#include "experiments/build_info.h"
#include "experiments/point_grid.h"
#include "experiments/resumable_output.h"

namespace mobalab::experiments {
std::vector<Flag> probe_flags() {
    return point_flags_without({"model", "mu-noise"}) +
           std::vector<Flag>{
               {"device", "NAME", "cpu", "kernel that routes: cpu, cuda, or auto (cuda where it can run)"},
               {"dtype", "NAME", "fp32", "type of queries, keys and centroids: fp32, bf16, fp16"},
               {"probes", "N", "32768", "probes a point, over all its key sets"},
               {"key-sets", "N", "0", "independent sets of keys; 0 chooses so many that probes hardly share keys"},
               {"confidence", "P", "0.95", "confidence of the intervals"}} +
           engine_flags("1") + resumable_output_flags() + json_flag();
}

kernels::DataType probe_dtype(const Arguments& arguments) {
    const std::string name = arguments.choice("dtype", {"fp32", "bf16", "fp16"});
    return name == "fp32"   ? kernels::DataType::fp32
           : name == "bf16" ? kernels::DataType::bf16
                            : kernels::DataType::fp16;
}

ProbeSettings probe_settings(const Arguments& arguments) {
    ProbeSettings settings;
    settings.dtype = probe_dtype(arguments);
    settings.trials = arguments.integer("probes", 2, std::int64_t{1} << 40U);
    settings.key_sets = arguments.integer("key-sets", 0, settings.trials / 2);
    settings.seed = static_cast<std::uint64_t>(arguments.integer("seed", 0));
    settings.threads = worker_threads(arguments);
    return settings;
}

double interval_confidence(const Arguments& arguments) {
    return arguments.real("confidence", 0.5, 1.0 - 1e-12);
}

Results probe_results(const std::string& subcommand, const std::string& task,
                      const std::vector<analysis::RoutingPoint>& points, const ProbeSettings& settings,
                      const std::string& device, const Arguments& arguments) {
    std::string text = fmt::format("{}\nschema={}\nseed={}\ndtype={}\nprobes={}\nkey_sets={}\ndevice={}\n{}\n",
                                   subcommand, results_schema_version, settings.seed, to_string(settings.dtype),
                                   settings.trials, settings.key_sets, device, task);
    for (const analysis::RoutingPoint& point : points) {
        text += fmt::format("{};seq_len={}\n", analysis::canonical_text(point), point.seq_len);
    }
    Results results = new_results(subcommand);
    results.task = task_id(text);
    results.command = arguments.command_line();
    results.settings = arguments.settings();
    results.seed = settings.seed;
    results.device = fmt::format("{} ({})", device, cpu_name());
    return results;
}

}  // namespace mobalab::experiments
