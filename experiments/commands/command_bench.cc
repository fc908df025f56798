#include <optional>
#include <ostream>
#include <set>

#include "experiments/base/interrupt.h"
#include "experiments/bench/bench.h"
#include "experiments/cli/progress.h"
#include "experiments/commands/device_choice.h"
#include "experiments/commands/subcommands.h"
#include "experiments/points/point_grid.h"
#include "experiments/points/shown_columns.h"
#include "experiments/probe/kernel_under_test.h"
#include "experiments/results/table_text.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;

// Sequences or heads: as many as asked for, else those of the device.
std::int64_t count_of(const Arguments& arguments, const std::string& flag, std::int64_t on_cuda) {
    if (arguments.given(flag)) {
        return arguments.integer(flag, 1, 65535);
    }
    return arguments.text("device") == "cuda" ? on_cuda : 1;
}

std::vector<BenchShape> shapes_of(const Arguments& arguments, const std::vector<analysis::RoutingPoint>& points) {
    std::vector<BenchShape> shapes;
    for (const analysis::RoutingPoint& point : points) {
        shapes.push_back({.batch = count_of(arguments, "batch", 2),
                          .heads = count_of(arguments, "heads", 16),
                          .head_dim = point.head_dim,
                          .block_size = point.block_size,
                          .seq_len = point.seq_len,
                          .topk = point.topk,
                          .dtype = dtype_of(arguments),
                          .threads = static_cast<int>(arguments.integer("threads", 0, 4096))});
    }
    return shapes;
}

DeviceDemand bench_demand(const Arguments& arguments) {
    return {kernels::Operation::moba_forward, [&arguments](kernels::DataType dtype) {
                std::vector<kernels::Problem> problems;
                for (const BenchShape& shape : shapes_of(arguments.with("device", "cuda"), point_grid(arguments))) {
                    problems.push_back(problem_of(shape));
                    problems.back().dtype = dtype;
                }
                return problems;
            }};
}

// `told`: what was left out of shapes before and need not be said again.
std::vector<BenchCase> cases_of(const BenchShape& shape, bool on_cuda, std::set<std::string>& told,
                                Terminal& terminal) {
    if (on_cuda) {
        std::vector<std::string> left_out;
        std::vector<BenchCase> cases = cuda_kernel_cases(shape, left_out);
        for (const std::string& what : left_out) {
            if (told.insert(what).second) {
                terminal.err << "mobalab bench: left out: " << what << "\n";
            }
        }
        return cases;
    }
    std::vector<BenchCase> cases = cpu_kernel_cases(shape);
    for (BenchCase& bench : simulation_cases(shape)) {
        cases.push_back(std::move(bench));
    }
    return cases;
}

// Shape by shape: the tensors of one are gone before those of the next are made.
std::vector<BenchResult> measure_all(const std::vector<BenchShape>& shapes, const BenchBudget& budget, bool on_cuda,
                                     Terminal& terminal) {
    ProgressDisplay display(terminal, "bench");
    std::vector<BenchResult> results;
    std::set<std::string> told;
    for (std::size_t s = 0; s < shapes.size(); ++s) {
        const std::vector<BenchCase> cases = cases_of(shapes[s], on_cuda, told, terminal);
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
    if (print_for_program(table, arguments, terminal)) {
        return;
    }
    std::vector<ShownColumn> answers = {{"name", "name"},
                                        {"seconds_median", "seconds"},
                                        {"seconds_low", "low"},
                                        {"seconds_high", "high"},
                                        {"gflops", "GFLOP/s"}};
    if (!table.texts("peak").front().empty()) {
        answers.push_back({"share_of_peak", "of_peak"});
    }
    answers.insert(answers.end(), {{"gbytes_per_second", "GB/s"}, {"ratio_to_peer", "ratio"}, {"peer", "to"}});
    terminal.out << human_table(table,
                                {{"batch", "batch"},
                                 {"heads", "heads"},
                                 {"head_dim", "d"},
                                 {"block_size", "B"},
                                 {"seq_len", "N"},
                                 {"topk", "k"},
                                 {"budget", "kB"},
                                 {"dtype", "dtype"},
                                 {"threads", "threads"}},
                                answers);
    if (!table.texts("peak").front().empty()) {
        terminal.out << "of_peak: of " << table.texts("peak").front() << "\n";
    }
}

int run_bench(const Arguments& asked, Terminal& terminal) {
    const Arguments arguments = resolve_device(asked, bench_demand(asked), terminal);
    const bool on_cuda = arguments.text("device") == "cuda";
    if (arguments.on("force") && !arguments.given("out")) {
        throw InputError("force: is about a results file; name it with --out");
    }
    const PointGrid grid = routing_grid(arguments);
    const std::vector<BenchShape> shapes = shapes_of(arguments, grid.points);
    grid.report("bench", terminal);
    const BenchBudget budget{.repeats = arguments.integer("repeats", 3, 1'000'000),
                             .seconds = arguments.real("max-seconds", 0.0, 1e6)};
    std::optional<ResultsOutput> output;
    if (arguments.given("out")) {
        output.emplace(arguments.text("out"), arguments.on("force"));
    }
    Table table = bench_table(measure_all(shapes, budget, on_cuda, terminal));
    grid.describe(table);
    if (output) {
        Results results = new_results("bench");
        results.task = task_id("bench\n" + arguments.settings());
        results.command = arguments.command_line();
        results.settings = arguments.settings();
        results.device = kernel_for_device(arguments.text("device"), 1)->processor();
        results.tables = {table};
        output->commit(results);
    }
    print(table, arguments, terminal);
    return exit_ok;
}

}  // namespace

Subcommand bench_command() {
    return {
        "bench",
        "speed of the kernels and of the simulation engine",
        "Times pooling, routing, attention forward and backward and the key convolution of the CPU kernel, and the "
        "simulation engine. The ratio is the rate over that of a bare Eigen product of the same shape (or of a copy) "
        "on the same threads, measured in turns with it; GFLOP/s count useful operations only (blocks in the past, "
        "keys attended to).\n"
        "\n"
        "With --device cuda the CUDA kernels: times of CUDA events, tensors in turns so that none is in the cache, "
        "after a sample of the results was compared with the CPU kernel. The ratio is bytes a second over those of a "
        "copy on the device, measured in turns; of_peak is GFLOP/s over the peak of the tensor cores at the highest "
        "clock.",
        std::vector<Flag>{{"batch", "N", "", "sequences; without it 1 on cpu, 2 on cuda"},
                          {"heads", "N", "", "heads of queries and of keys; without it 1 on cpu, 16 on cuda"},
                          {"head-dim", "LIST", "128", "width d of a head"},
                          {"block-size", "LIST", "64", "keys B of a block"},
                          {"seq-len", "LIST", "32K", "tokens N"},
                          {"topk", "LIST", "8", "blocks k a query attends to, its own included"},
                          {"threads", "N", "0", "worker threads, 0 for all"},
                          {"repeats", "N", "7", "calls a measurement"},
                          {"max-seconds", "S", "2", "fewer calls (but 3) where they would take longer than this"}} +
            grid_flags() + device_flags() + output_flags() + table_flags(),
        {{"bench", "the default shape: d 128, N 32K, B 64, k 8"},
         {"bench --block-size 16:512:x2 --seq-len 16K", "six block sizes"},
         {"bench --device cuda --seq-len 64K --block-size 64,128", "the GPU: 2 sequences of 16 heads"},
         {"bench --threads 1 --dtype bf16 --json", "one thread, 16-bit tensors, for a program"},
         {"bench --seq-len 8K:64K:x2 --out bench.h5", "four lengths, to a results file"}},
        "",
        run_bench};
}

}  // namespace mobalab::experiments
