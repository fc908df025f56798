#include "experiments/commands/probe_commands.h"

#include <fmt/format.h>

#include <optional>
#include <ostream>

#include "experiments/base/values.h"
#include "experiments/cli/progress.h"
#include "experiments/commands/output_flags.h"
#include "experiments/commands/probe_flags.h"
#include "experiments/commands/subcommands.h"
#include "experiments/points/point_grid.h"
#include "experiments/points/shown_columns.h"
#include "experiments/probe/kernel_assessment.h"
#include "experiments/results/column_names.h"
#include "experiments/results/table_text.h"

namespace mobalab::experiments {
namespace {

using analysis::RoutingPoint;

Table route_table(const PointGrid& grid, const KernelAssessment& kernel, const ProbeSettings& settings,
                  double confidence) {
    Table table{.name = "route", .columns = point_columns(grid.points)};
    for (auto&& columns : {theory_columns(grid.points, settings.threads),
                           without_prefix(kernel_columns(kernel, confidence, settings.threads), "kernel_"),
                           std::vector<Column>{seed_column(settings.seed, grid.points.size())}}) {
        table.columns.insert(table.columns.end(), columns.begin(), columns.end());
    }
    table.attributes = {{"confidence", confidence}};
    grid.describe(table);
    return table;
}

void print(const Table& table, std::uint64_t seed, const Arguments& arguments, Terminal& terminal) {
    if (print_for_program(table, arguments, terminal)) {
        return;
    }
    terminal.out << fmt::format("seed {}, {} {} kernel, ", seed, arguments.text("device"), arguments.text("dtype"))
                 << human_table(table, point_parameters(),
                                {{"trials", "probes"},
                                 {"misses", "misses"},
                                 {"miss", "miss"},
                                 {"low", "low"},
                                 {"high", "high"},
                                 {"expected_miss", "expected_miss"},
                                 {"key_sets", "key_sets"}});
}

}  // namespace

int run_route(const Arguments& arguments, Terminal& terminal, const KernelUnderTest& kernel) {
    const PointGrid grid = routing_grid(arguments);
    const std::vector<RoutingPoint>& points = grid.points;
    ProbeSettings settings = probe_settings(arguments);
    settings.has_law = !arguments.given("router");
    const double confidence = interval_confidence(arguments);
    const ProbePlan plan = plan_probes(points, settings);
    const ResumableOutput::Mode mode = output_mode(arguments);
    std::optional<ResumableOutput> output;
    if (arguments.given("out")) {
        const std::string task = grid.task_text() + "confidence=" + shortest(confidence);
        output.emplace(arguments.text("out"), mode, probe_results("route", task, points, settings, kernel, arguments));
    }
    if (output && output->finished()) {
        terminal.err << "mobalab route: " << arguments.text("out") << " is complete; nothing left to do\n";
        print(output->finished()->table("route"), settings.seed, arguments, terminal);
        return exit_ok;
    }
    grid.report("route", terminal);
    UnitJournal journal(output ? &*output : nullptr);
    std::vector<JobCounts> counts;
    {
        ProgressDisplay display(terminal, "route");
        counts = run_probes(plan.jobs, kernel, journal,
                            [&](double fraction, const std::string& text) { display.update(fraction, text); });
    }
    const Table table =
        route_table(grid, assess_kernel(points, plan, counts, kernel.parallel_key_sets()), settings, confidence);
    if (output) {
        output->commit({table});
    }
    print(table, settings.seed, arguments, terminal);
    return exit_ok;
}

Subcommand route_command() {
    return {
        "route",
        "planted needles through the real kernel",
        "Draws sets of unit keys, gives every probe query a block of its past and builds the query from keys in it, so "
        "that it has exactly the affinities asked for (--mu-signal to the needle, --mu-cluster to the cluster's "
        "others) "
        "and every other key is noise; then lets the kernel route and counts the probes whose block was not chosen.\n"
        "\n"
        "Probes stand all along the sequence, an eighth of them in the last block; a probe early in the sequence has "
        "few "
        "candidates and hits more easily. expected_miss is the exact probability averaged over the same candidates: "
        "what "
        "miss must be compared with. low and high are clustered by key set, because probes share keys. Probes whose "
        "random "
        "cluster allows no query with these affinities are dropped.\n"
        "\n"
        "With --router another process routes the same keys and queries. expected_miss is then a missing value, as "
        "theory "
        "knows the kernels' scorers only; exact_miss stays that of --scorer, to compare with.",
        probe_flags(),
        {{"route", "one point with the default flags on the CPU kernel"},
         {"route --block-size 32:512:x2 --mu-signal 0.9", "five block sizes"},
         {"route --dtype bf16 --probes 1e6", "a million probes with 16-bit tensors"},
         {"route --device cuda --seq-len 512K --block-size 128", "the GPU kernel, at half a million keys"},
         {"route --cluster-size 1,4 --mu-cluster 0.2 --mu-signal 0.7 --json",
          "a cluster of related tokens, for a program"},
         {"route --seq-len 8K:128K:x2 --out route.h5", "longer and longer sequences, to a results file"}},
        "",
        [](const Arguments& arguments, Terminal& terminal) { return run_on_device(arguments, terminal, run_route); },
        true};
}

}  // namespace mobalab::experiments
