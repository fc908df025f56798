#include <fmt/format.h>

#include <optional>
#include <ostream>
#include <utility>

#include "experiments/base/build_info.h"
#include "experiments/cli/progress.h"
#include "experiments/commands/output_flags.h"
#include "experiments/commands/stop_flags.h"
#include "experiments/commands/subcommands.h"
#include "experiments/points/point_grid.h"
#include "experiments/points/shown_columns.h"
#include "experiments/probe/kernel_under_test.h"
#include "experiments/results/table_text.h"
#include "experiments/simulation/miss_estimate.h"
#include "experiments/simulation/shorter_run.h"
#include "experiments/simulation/simulation_columns.h"
#include "experiments/simulation/simulation_run.h"
#include "sim/engine/engine.h"

namespace mobalab::experiments {
namespace {

/// What was asked for, and the grid that the points come from.
struct Plan : SimulationPlan {
    PointGrid grid;
};

Plan plan_of(const Arguments& arguments) {
    Plan plan;
    plan.grid = routing_grid(arguments);
    plan.points = plan.grid.points;
    plan.grid_text = plan.grid.task_text();
    plan.budget.stop = stop_rule(arguments);
    plan.budget.seed = static_cast<std::uint64_t>(arguments.integer("seed", 0));
    plan.budget.threads = worker_threads(arguments);
    plan.confidence = arguments.real("confidence", 0.5, 1.0 - 1e-12);
    choose_methods(
        plan, arguments.choice("method", {"auto", "vector", "affinity", "block", "threshold", "conditional", "exact"}));
    choose_device(plan, arguments.choice("device", {"cpu", "cuda", "auto"}));
    return plan;
}

Table simulation_table(const Plan& plan, const std::vector<PointProgress>& points) {
    Table table;
    table.name = "simulate";
    table.columns = point_columns(plan.points);
    for (auto&& columns : {theory_columns(plan.points, plan.budget.threads), simulation_columns(plan, points)}) {
        table.columns.insert(table.columns.end(), columns.begin(), columns.end());
    }
    table.attributes = {{"interval", interval_definition(plan.confidence)}, {"confidence", plan.confidence}};
    plan.grid.describe(table);
    return table;
}

void print(const Table& table, std::uint64_t seed, const Arguments& arguments, Terminal& terminal) {
    if (print_for_program(table, arguments, terminal)) {
        return;
    }
    terminal.out << fmt::format("seed {}, ", seed) << human_table(table, simulated_parameters(), simulated_answers());
}

/// What the points are drawn on, each device once.
std::string devices_of(const Plan& plan) {
    bool cpu = false;
    bool cuda = false;
    for (std::size_t i = 0; i < plan.points.size(); ++i) {
        const sim::Budget budget = plan.budget_of(i);
        const bool on_cuda = budget.device == sim::Device::cuda && sim::counts_trials(*budget.method);
        (on_cuda ? cuda : cpu) = true;
    }
    if (!cuda) {
        return cpu_name();
    }
    const std::string gpu = fmt::format("cuda ({})", cuda_kernel(1)->processor());
    return cpu ? fmt::format("{}, cpu ({})", gpu, cpu_name()) : gpu;
}

Results identity(const Plan& plan, const Arguments& arguments) {
    Results results = new_results("simulate");
    results.task = task_id(plan.canonical_text());
    results.command = arguments.command_line();
    results.settings = arguments.settings();
    results.seed = plan.budget.seed;
    results.device = devices_of(plan);
    return results;
}

/// What a finished file of the same points, seed, methods and confidence says where this run's stop rules only let it
/// go further: the journal records it would have been at. Nothing when the file is not such a one. Throws InputError
/// when it is and these rules would have ended a point before.
std::optional<Journal::Records> records_of_shorter_run(const Results& found, const Plan& plan,
                                                       const Arguments& arguments) {
    const std::optional<Arguments> asked = with_stop_rules_of(found, arguments);
    if (!asked) {
        return std::nullopt;
    }
    const Plan before = plan_of(*asked);
    if (found.task != task_id(before.canonical_text())) {
        return std::nullopt;
    }
    check_goes_further(before.budget.stop, plan.budget.stop);
    const Table& table = found.table("simulate");
    Journal::Records records;
    for (std::size_t i = 0; i < plan.points.size(); ++i) {
        const sim::Method method = plan.choices[i].method;
        if (method == before.choices[i].method && sim::counts_trials(method)) {
            records[static_cast<std::int64_t>(i)] =
                record_of(progress_of_counts(plan.points[i], method,
                                             {.trials = static_cast<std::uint64_t>(table.integers("trials").at(i)),
                                              .misses = static_cast<std::uint64_t>(table.integers("misses").at(i)),
                                              .rank_histogram = {}}));
        }
    }
    return records;
}

/// For a program that watches: the table as it stands before the first trial, on one line.
void announce(const Plan& plan, const std::vector<PointProgress>& points, Terminal& terminal) {
    Table table{.name = "simulate", .columns = point_columns(plan.points)};
    for (Column& column : simulation_columns(plan, points)) {
        table.columns.push_back(std::move(column));
    }
    std::string rows = json_table(table);
    std::replace(rows.begin(), rows.end(), '\n', ' ');
    terminal.err << "{\"rows\": " << rows << "}" << std::endl;
}

std::vector<PointProgress> simulated(const Plan& plan, ResumableOutput* output, Terminal& terminal) {
    std::vector<PointProgress> points = recorded_points(plan, output);
    if (terminal.json_progress) {
        announce(plan, points, terminal);
    }
    ProgressDisplay display(terminal, "simulate");
    display.start_at(fraction_done(plan, points));
    return run_simulation(plan, std::move(points), output, [&](const RunProgress& at) {
        display.update(
            at.fraction,
            fmt::format("point {} of {}: {} trials, {} misses", at.point + 1, plan.points.size(), at.counts.trials,
                        at.counts.misses),
            PointState{
                .point = static_cast<std::int64_t>(at.point),
                .trials = static_cast<std::int64_t>(at.counts.trials),
                .misses = at.counts_misses ? std::optional(static_cast<std::int64_t>(at.counts.misses)) : std::nullopt,
                .finished = at.finished});
    });
}

int run_simulate(const Arguments& arguments, Terminal& terminal) {
    const Plan plan = plan_of(arguments);
    const ResumableOutput::Mode mode = output_mode(arguments);
    std::optional<ResumableOutput> output;
    if (arguments.given("out")) {
        output.emplace(arguments.text("out"), mode, identity(plan, arguments),
                       [&](const Results& found) { return records_of_shorter_run(found, plan, arguments); });
    }
    plan.grid.report("simulate", terminal);
    if (output && output->finished()) {
        terminal.err << "mobalab simulate: " << arguments.text("out") << " is complete; nothing left to do\n";
        print(output->finished()->table("simulate"), plan.budget.seed, arguments, terminal);
        return exit_ok;
    }
    if (output && output->extends()) {
        terminal.err << "mobalab simulate: going on from the trials that " << arguments.text("out") << " holds\n";
    }
    const Table table = simulation_table(plan, simulated(plan, output ? &*output : nullptr, terminal));
    if (output) {
        output->commit({table});
    }
    print(table, plan.budget.seed, arguments, terminal);
    return exit_ok;
}

}  // namespace

Subcommand simulate_command() {
    return {"simulate",
            "Monte Carlo on the same grid, with intervals",
            "Draws trials of every point of the grid under its model and counts misses: trials in which the needle's "
            "block is not among the blocks the query attends to. A point stops at the first stop rule met. The counts "
            "follow from seed, point and stop rule alone, whatever the number of threads.\n"
            "\n"
            "low and high are the Clopper-Pearson interval of the miss probability (method conditional: of a mean of "
            "weights, by the central limit theorem on the log scale; exact: its error); exact_miss is the theory of "
            "the model, a dash where it has none (correlated unit keys, key convolution).\n"
            "\n"
            "With --out the run can be killed at any moment and continued with --resume; the file ends with the same "
            "bytes as that of an uninterrupted run. A finished file goes on as well: --resume with more --trials (or "
            "--max-misses, or a smaller --target-relative-error) starts from its counts and ends with those of a run "
            "that was asked for as many from the start.",
            point_flags() + needle_flags() + text_flags() + scorer_flags() + key_conv_flags() + stop_flags() +
                engine_flags("1") +
                std::vector<Flag>{{"method", "NAME", "auto",
                                   "vector, affinity, block, threshold, conditional, exact; auto: the point's own, or "
                                   "with --target-relative-error the cheapest that reaches it"},
                                  {"device", "NAME", "cpu",
                                   "where to draw: cpu, cuda, or auto (cuda where it can); the counts are the same"},
                                  {"confidence", "P", "0.95", "confidence of the intervals"}} +
                resumable_output_flags() + progress_flag() + table_flags(),
            {{"simulate --trials 1e6", "one point with the default flags, a million trials"},
             {"simulate --head-dim 2048 --block-size 16 --target-relative-error 0.01",
              "a miss of one in 10^15, to one percent in a fraction of a second"},
             {"simulate --head-dim 64,128 --block-size 32:512:x2 --max-misses 1000 --trials 1e7",
              "ten points, each to 1000 misses (3 % standard error)"},
             {"simulate --target-relative-error 0.01 --max-seconds 60 --trials 1e9 --out miss.h5",
              "to one percent, but at most a minute a point; written to a results file"},
             {"simulate --target-relative-error 0.01 --max-seconds 60 --trials 1e9 --out miss.h5 --resume",
              "the same, after an interruption"},
             {"simulate --trials 1e6 --out more.h5 --resume", "more trials of a file that was finished with fewer"},
             {"simulate --needles 4 --goal each,any,all", "four needles: the share found, any of them, all of them"},
             {"simulate --key-correlation 0:0.2:+0.05", "what keys that resemble their block's others change"},
             {"simulate --key-conv 3,5 --head-dim 32 --block-size 16 --seq-len 1K --trials 2000",
              "the key convolution of the kernels, on real vectors"},
             {"simulate --model gaussian,sphere,vector --trials 1e4 --json",
              "three models beside each other, for a program"}},
            "",
            run_simulate,
            true};
}

}  // namespace mobalab::experiments
