#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <ostream>

#include "analysis/hit_probability.h"
#include "analysis/inverse.h"
#include "experiments/build_info.h"
#include "experiments/interrupt.h"
#include "experiments/point_grid.h"
#include "experiments/progress.h"
#include "experiments/results_file.h"
#include "experiments/shown_columns.h"
#include "experiments/subcommands.h"
#include "experiments/table_text.h"
#include "experiments/work_dealer.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;
using analysis::RoutingPoint;

/// An inverse question: the flag solved for, and how its answer changes the point.
struct Inverse {
    std::string flag;
    ShownColumn column;
    /// Puts the answer into the point, or the value that comes nearest when none reaches `wanted_hit`; then false.
    bool (*solve)(RoutingPoint& point, double wanted_hit);
};

template <typename Value>
bool put(const std::optional<Value>& answer, Value nearest, Value& field) {
    field = answer.value_or(nearest);
    return answer.has_value();
}

bool solve_head_dim(RoutingPoint& point, double hit) {
    return put(analysis::smallest_head_dim(point, hit), std::int64_t{65536}, point.head_dim);
}

bool solve_block_size(RoutingPoint& point, double hit) {
    const bool found = put(analysis::largest_block_size(point, hit), point.cluster_size, point.block_size);
    if (point.seq_len > 0) {
        point.candidates = analysis::candidates_of_last_query(point.seq_len, point.block_size);
    }
    return found;
}

bool solve_topk(RoutingPoint& point, double hit) {
    return put(analysis::smallest_topk(point, hit), std::min<std::int64_t>(512, point.candidates + 1), point.topk);
}

bool solve_mu_signal(RoutingPoint& point, double hit) {
    return put(analysis::smallest_mu_signal(point, hit), 1.0, point.mu_signal);
}

const std::vector<Inverse>& inverses() {
    static const std::vector<Inverse> all = {{"head-dim", {"head_dim", "smallest d"}, solve_head_dim},
                                             {"block-size", {"block_size", "largest B"}, solve_block_size},
                                             {"topk", {"topk", "smallest k"}, solve_topk},
                                             {"mu-signal", {"mu_signal", "smallest mu"}, solve_mu_signal}};
    return all;
}

const Inverse& inverse_of(const Arguments& arguments) {
    std::vector<std::string> names;
    for (const Inverse& inverse : inverses()) {
        names.push_back(inverse.flag);
    }
    const std::string name = arguments.choice("solve", names);
    for (const Inverse& inverse : inverses()) {
        if (inverse.flag == name) {
            if (arguments.given(name)) {
                throw InputError(fmt::format("{} = {}: is what --solve {} asks for; leave it out", name,
                                             arguments.text(name), name));
            }
            return inverse;
        }
    }
    throw std::logic_error("a choice without an inverse");
}

double wanted_hit(const Arguments& arguments) {
    const double wanted = arguments.real("wanted-hit", -HUGE_VAL, HUGE_VAL);
    if (!(wanted > 0.0 && wanted < 1.0)) {
        throw InputError(fmt::format("wanted-hit = {}: must be above 0 and below 1; nearest valid: {}",
                                     arguments.text("wanted-hit"), wanted >= 1.0 ? "0.999999" : "0.000001"));
    }
    return wanted;
}

struct Answers {
    PointGrid grid;
    std::vector<std::string> reached;  ///< "yes" or "no"; empty without --solve
    int code = exit_ok;
};

Answers answers(const Arguments& arguments) {
    if (!arguments.given("solve")) {
        if (arguments.given("wanted-hit")) {
            throw InputError("wanted-hit: goes with --solve head-dim, block-size, topk or mu-signal");
        }
        PointGrid grid = routing_grid(arguments);
        std::for_each(grid.points.begin(), grid.points.end(), analysis::require_exact_probability);
        return {std::move(grid), {}, exit_ok};
    }
    const Inverse& inverse = inverse_of(arguments);
    const double wanted = wanted_hit(arguments);
    Answers answers{routing_grid(arguments, inverse.flag), {}, exit_ok};
    for (RoutingPoint& point : answers.grid.points) {
        stop_if_interrupted();
        const bool found = inverse.solve(point, wanted);
        answers.reached.push_back(found ? "yes" : "no");
        answers.code = found ? answers.code : exit_disagree;
    }
    return answers;
}

Table theory_table(const Answers& answers, int threads, Terminal& terminal) {
    Table table;
    table.name = "theory";
    table.columns = point_columns(answers.grid.points);
    ProgressDisplay display(terminal, "theory");
    const std::size_t points = answers.grid.points.size();
    const auto show = [&](std::size_t done) {
        display.update(static_cast<double>(done) / static_cast<double>(points),
                       fmt::format("{} of {} points", done, points));
    };
    for (Column& column : theory_columns(answers.grid.points, threads, show)) {
        table.columns.push_back(std::move(column));
    }
    if (!answers.reached.empty()) {
        table.columns.push_back(
            {"reached", "whether some value reaches the wanted hit probability", "", answers.reached});
    }
    answers.grid.describe(table);
    return table;
}

void print(const Table& table, const Arguments& arguments, Terminal& terminal) {
    if (print_for_program(table, arguments, terminal)) {
        return;
    }
    std::vector<ShownColumn> parameters = point_parameters();
    std::vector<ShownColumn> shown = theory_answers();
    if (arguments.given("solve")) {
        const ShownColumn& solved = inverse_of(arguments).column;
        std::erase_if(parameters, [&](const ShownColumn& parameter) { return parameter.name == solved.name; });
        shown.insert(shown.begin(), {solved, {"reached", "reached"}});
    }
    terminal.out << human_table(table, parameters, shown);
}

/// What the table depends on: the flags, and what a file of points held.
std::string task_text(const Arguments& arguments, const PointGrid& grid) {
    std::string text = "theory\n" + arguments.without("threads").settings();
    if (arguments.given("points")) {
        for (const RoutingPoint& point : grid.points) {
            text += fmt::format("\n{};seq_len={}", analysis::canonical_text(point), point.seq_len);
        }
    }
    return text;
}

int run_theory(const Arguments& arguments, Terminal& terminal) {
    if (arguments.on("force") && !arguments.given("out")) {
        throw InputError("force: is about a results file; name it with --out");
    }
    std::optional<ResultsOutput> output;
    if (arguments.given("out")) {
        output.emplace(arguments.text("out"), arguments.on("force"));
    }
    const int threads = arguments.given("threads") ? worker_threads(arguments) : work_dealer().own_cores();
    const Answers found = answers(arguments);
    found.grid.report("theory", terminal);
    const Table table = theory_table(found, threads, terminal);
    if (output) {
        Results results = new_results("theory");
        results.task = task_id(task_text(arguments, found.grid));
        results.command = arguments.command_line();
        results.settings = arguments.settings();
        results.device = cpu_name();
        results.tables = {table};
        output->commit(results);
    }
    print(table, arguments, terminal);
    if (found.code != exit_ok) {
        terminal.err << "mobalab theory: no value of " << arguments.text("solve")
                     << " reaches the wanted hit probability where `reached` is no; the value that comes "
                        "nearest stands there\n";
    }
    return found.code;
}

}  // namespace

Subcommand theory_command() {
    return {
        "theory",
        "closed forms on a grid: the paper's and the exact ones",
        "For every point of the grid (the cross product of the lists): the paper's signal-to-noise ratio, its pairwise "
        "miss Phi(-snr) and the snr it calls reliable, and the exact probability that the needle's block is (hit) "
        "or is not (miss) among the blocks a query attends to.\n"
        "\n"
        "Lists and ranges: 64,128 or 16:512:x2 (16, 32, ..., 512) or 0.5:0.9:+0.1. Whole numbers may be written 8K "
        "(8192) or 1e6.\n"
        "\n"
        "With --solve one flag is the question: the smallest head-dim, topk or mu-signal, or the largest block-size, "
        "that reaches --wanted-hit. Exit code 1 when a point has no answer.",
        point_flags() + needle_flags() +
            std::vector<Flag>{{"solve", "FLAG", "", "solve for head-dim, block-size, topk or mu-signal"},
                              {"wanted-hit", "P", "0.99", "hit probability --solve must reach"}} +
            std::vector<Flag>{{"threads", "N", "", "worker threads, without it all; results do not depend on it"}} +
            output_flags() + table_flags(),
        {{"theory", "one point with the default flags"},
         {"theory --budget 1024 --block-size 16:512:x2", "block sizes at the same number of keys a query attends to"},
         {"theory --seq-len 1K:128K:x2 --block-size 16:512:x2 --skip-impossible --csv",
          "a grid with impossible corners, as CSV"},
         {"theory --head-dim 64,128 --block-size 16:512:x2 --seq-len 32K", "how the block size decides, at 12 points"},
         {"theory --model gaussian,sphere --candidates 1000 --mu-signal 0.5:0.9:+0.1",
          "the paper's model beside the exact law of unit keys"},
         {"theory --cluster-size 1,4 --mu-cluster 0.4 --json",
          "what a cluster of related tokens changes, for a program"},
         {"theory --needles 4 --goal each,any,all --topk 8,16", "four needles that compete for the slots"},
         {"theory --model gaussian-fixed --key-correlation 0:0.2:+0.05 --cluster-size 2",
          "what keys that resemble their block's others change, for normal keys"},
         {"theory --solve block-size --wanted-hit 0.999 --seq-len 8K,32K,128K",
          "the largest block that still finds the needle 999 times of 1000"}},
        "",
        run_theory};
}

}  // namespace mobalab::experiments
