#include <optional>
#include <ostream>

#include "experiments/bench.h"
#include "experiments/build_info.h"
#include "experiments/interrupt.h"
#include "experiments/point_grid.h"
#include "experiments/probe_flags.h"
#include "experiments/progress.h"
#include "experiments/subcommands.h"
#include "experiments/table_text.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;

std::vector<BenchShape> shapes_of(const Arguments& arguments) {
    std::vector<BenchShape> shapes;
    for (const analysis::RoutingPoint& point : point_grid(arguments)) {
        shapes.push_back({.head_dim = point.head_dim,
                          .block_size = point.block_size,
                          .seq_len = point.seq_len,
                          .topk = point.topk,
                          .dtype = dtype_of(arguments),
                          .threads = static_cast<int>(arguments.integer("threads", 0, 4096))});
    }
    return shapes;
}

std::vector<BenchCase> cases_of(const BenchShape& shape) {
    std::vector<BenchCase> cases = cpu_kernel_cases(shape);
    for (BenchCase& bench : simulation_cases(shape)) {
        cases.push_back(std::move(bench));
    }
    return cases;
}

// Shape by shape: the tensors of one are gone before those of the next are made.
std::vector<BenchResult> measure_all(const std::vector<BenchShape>& shapes, const BenchBudget& budget,
                                     Terminal& terminal) {
    ProgressDisplay display(terminal, "bench");
    std::vector<BenchResult> results;
    for (std::size_t s = 0; s < shapes.size(); ++s) {
        const std::vector<BenchCase> cases = cases_of(shapes[s]);
        for (std::size_t c = 0; c < cases.size(); ++c) {
            if (interrupted()) {
                throw Interrupted("interrupted; a benchmark is not resumed, run it again");
            }
            const double of_shape = static_cast<double>(c) / static_cast<double>(cases.size());
            display.update((static_cast<double>(s) + of_shape) / static_cast<double>(shapes.size()), cases[c].name);
            results.push_back(measure(cases[c], budget));
        }
    }
    return results;
}

void print(const Table& table, const Arguments& arguments, Terminal& terminal) {
    if (arguments.on("json")) {
        terminal.out << json_table(table);
        return;
    }
    terminal.out << human_table(table,
                                {{"head_dim", "d"},
                                 {"block_size", "B"},
                                 {"seq_len", "N"},
                                 {"topk", "k"},
                                 {"dtype", "dtype"},
                                 {"threads", "threads"}},
                                {{"name", "name"},
                                 {"seconds_median", "seconds"},
                                 {"seconds_low", "low"},
                                 {"seconds_high", "high"},
                                 {"gflops", "GFLOP/s"},
                                 {"gbytes_per_second", "GB/s"},
                                 {"ratio_to_peer", "ratio"},
                                 {"peer", "to"}});
}

int run_bench(const Arguments& arguments, Terminal& terminal) {
    if (arguments.on("force") && !arguments.given("out")) {
        throw InputError("force: is about a results file; name it with --out");
    }
    const std::vector<BenchShape> shapes = shapes_of(arguments);
    const BenchBudget budget{.repeats = arguments.integer("repeats", 3, 1'000'000),
                             .seconds = arguments.real("max-seconds", 0.0, 1e6)};
    arguments.choice("device", {"cpu"});
    std::optional<ResultsOutput> output;
    if (arguments.given("out")) {
        output.emplace(arguments.text("out"), arguments.on("force"));
    }
    const Table table = bench_table(measure_all(shapes, budget, terminal));
    if (output) {
        Results results = new_results("bench");
        results.task = task_id("bench\n" + arguments.settings());
        results.command = arguments.command_line();
        results.settings = arguments.settings();
        results.device = cpu_name();
        results.tables = {table};
        output->commit(results);
    }
    print(table, arguments, terminal);
    return exit_ok;
}

}  // namespace

Subcommand bench_command() {
    return {"bench",
            "speed of the kernels and of the simulation engine",
            "Times pooling, routing, attention forward and backward and the key convolution of the CPU kernel, and the "
            "simulation engine, one head and one sequence a shape. The ratio is the rate over that of a bare Eigen "
            "product of the same shape (or of a copy) on the same threads, measured in turns with it; GFLOP/s count "
            "useful operations only (blocks in the past, keys attended to).",
            std::vector<Flag>{{"head-dim", "LIST", "128", "width d of a head"},
                              {"block-size", "LIST", "64", "keys B of a block"},
                              {"seq-len", "LIST", "32K", "tokens N"},
                              {"topk", "LIST", "8", "blocks k a query attends to, its own included"},
                              {"device", "NAME", "cpu", "what to time: cpu"},
                              {"dtype", "NAME", "fp32", "type of the tensors: fp32, bf16, fp16"},
                              {"threads", "N", "0", "worker threads, 0 for all"},
                              {"repeats", "N", "7", "calls a measurement"},
                              {"max-seconds", "S", "2", "fewer calls (but 3) where they would take longer than this"}} +
                output_flags() + json_flag(),
            {{"bench", "the default shape: d 128, N 32K, B 64, k 8"},
             {"bench --block-size 16:512:x2 --seq-len 16K", "six block sizes"},
             {"bench --threads 1 --dtype bf16 --json", "one thread, 16-bit tensors, for a program"},
             {"bench --seq-len 8K:64K:x2 --out bench.h5", "four lengths, to a results file"}},
            "",
            run_bench};
}

}  // namespace mobalab::experiments
