#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <ostream>
#include <string>

#include "analysis/hit_probability.h"
#include "analysis/inverse.h"
#include "analysis/scorer_approximation.h"
#include "experiments/base/build_info.h"
#include "experiments/base/interrupt.h"
#include "experiments/base/parallel_for.h"
#include "experiments/base/this_rank.h"
#include "experiments/cli/progress.h"
#include "experiments/commands/subcommands.h"
#include "experiments/points/point_grid.h"
#include "experiments/points/rounding_columns.h"
#include "experiments/points/shown_columns.h"
#include "experiments/probe/kernel_under_test.h"
#include "experiments/results/column_builder.h"
#include "experiments/results/results_file.h"
#include "experiments/results/table_text.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;
using analysis::RoutingPoint;

/// What --solve found at one point.
struct Solved {
    bool reached;
    std::string reaching;  ///< every value that reaches, "4..10, 1024..8191"
    std::string searched;  ///< the values asked about, "4..8191"
    std::int64_t trivial_from = -1;
};

/// An inverse question: the flag solved for, and how its answer changes the point.
struct Inverse {
    std::string flag;
    ShownColumn column;
    std::string symbol;
    /// Puts the one-number answer into the point; where no value reaches `wanted_hit`, the value that comes nearest.
    Solved (*solve)(RoutingPoint& point, double wanted_hit);
};

template <typename Value>
std::string text_of(const analysis::Range<Value>& range) {
    return range.low == range.high ? fmt::format("{}", range.low) : fmt::format("{}..{}", range.low, range.high);
}

template <typename Value>
Solved solved(const analysis::Reaching<Value>& answer) {
    std::string reaching;
    for (const analysis::Range<Value>& interval : answer.intervals) {
        reaching += (reaching.empty() ? "" : ", ") + text_of(interval);
    }
    return {.reached = answer.any(), .reaching = reaching, .searched = text_of(answer.searched)};
}

template <typename Value>
Solved put_smallest(const analysis::Reaching<Value>& answer, Value& field) {
    field = answer.any() ? answer.intervals.front().low : answer.nearest;
    return solved(answer);
}

Solved solve_head_dim(RoutingPoint& point, double hit) {
    return put_smallest(analysis::head_dims_that_reach(point, hit), point.head_dim);
}

Solved solve_block_size(RoutingPoint& point, double hit) {
    const analysis::ReachingBlockSizes answer = analysis::block_sizes_that_reach(point, hit);
    Solved result = solved(answer);
    const std::optional<std::int64_t> largest = answer.largest();
    result.reached = largest.has_value();
    if (answer.trivial_from <= answer.searched.high) {
        result.trivial_from = answer.trivial_from;
    }
    point.block_size = largest.value_or(answer.nearest);
    if (point.seq_len > 0) {
        point.candidates = analysis::candidates_of_last_query(point.seq_len, point.block_size);
    }
    return result;
}

Solved solve_topk(RoutingPoint& point, double hit) {
    return put_smallest(analysis::topks_that_reach(point, hit), point.topk);
}

Solved solve_mu_signal(RoutingPoint& point, double hit) {
    return put_smallest(analysis::mu_signals_that_reach(point, hit), point.mu_signal);
}

const std::vector<Inverse>& inverses() {
    static const std::vector<Inverse> all = {{"head-dim", {"head_dim", "smallest d"}, "d", solve_head_dim},
                                             {"block-size", {"block_size", "largest B"}, "B", solve_block_size},
                                             {"topk", {"topk", "smallest k"}, "k", solve_topk},
                                             {"mu-signal", {"mu_signal", "smallest mu"}, "mu", solve_mu_signal}};
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

struct Answers {
    PointGrid grid;
    std::vector<Solved> solved;  ///< of every point; empty without --solve
    int code = exit_ok;
};

Answers answers(const Arguments& arguments, int threads) {
    if (!arguments.given("solve")) {
        if (arguments.given("wanted-hit")) {
            throw InputError("wanted-hit: goes with --solve head-dim, block-size, topk or mu-signal");
        }
        PointGrid grid = routing_grid(arguments);
        if (const std::vector<double> means = shared_means(arguments); !means.empty()) {
            grid.points = with_each_mean(grid.points, means);
        }
        for (const RoutingPoint& point : grid.points) {
            if (!analysis::has_approximation(point)) {
                analysis::require_exact_probability(point);
            }
        }
        return {std::move(grid), {}, exit_ok};
    }
    if (arguments.given("shared-mean")) {
        throw InputError("shared-mean: does not go with --solve; leave one of the two out");
    }
    const Inverse& inverse = inverse_of(arguments);
    const double wanted =
        arguments.inside("wanted-hit", {.least = 0.0, .most = 1.0, .lowest = 0.000001, .highest = 0.999999});
    Answers answers{routing_grid(arguments, inverse.flag), {}, exit_ok};
    std::vector<RoutingPoint>& points = answers.grid.points;
    answers.solved.resize(points.size());
    parallel_for(points.size(), threads, [&](std::size_t i) {
        stop_if_interrupted();
        answers.solved[i] = inverse.solve(points[i], wanted);
    });
    const bool all = std::all_of(answers.solved.begin(), answers.solved.end(), std::mem_fn(&Solved::reached));
    answers.code = all ? exit_ok : exit_disagree;
    return answers;
}

/// What --solve adds to the points: the answer as intervals, and what range it is about.
void add_solved_columns(const std::vector<Solved>& solved, const std::string& flag, Table& table) {
    table.columns.push_back(
        make_column(solved, "reached",
                    "whether some value reaches the wanted hit probability (of block sizes: one that leaves the "
                    "router a choice)",
                    [](const Solved& row) { return std::string(row.reached ? "yes" : "no"); }));
    table.columns.push_back(make_column(
        solved, "reaching", "every " + flag + " that reaches the wanted hit probability",
        [](const Solved& row) { return row.reaching; },
        "intervals, both ends included, low..high or one value, separated by commas; empty: none"));
    table.columns.push_back(make_column(solved, "searched", "range of " + flag + " that was searched",
                                        [](const Solved& row) { return row.searched; }));
    if (flag == "block-size") {
        table.columns.push_back(make_column(
            solved, "trivial_from", "block size from which on all past blocks are kept and every needle is found",
            [](const Solved& row) { return row.trivial_from; }, "candidates <= topk - 1"));
        table.columns.back().missing = -1;
    }
}

Table theory_table(const Answers& answers, const Arguments& arguments, int threads, Terminal& terminal) {
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
    if (const std::vector<double> means = shared_means(arguments); !means.empty()) {
        for (Column& column : rounding_columns(answers.grid.points, means, threads)) {
            table.columns.push_back(std::move(column));
        }
    }
    if (!answers.solved.empty()) {
        add_solved_columns(answers.solved, arguments.text("solve"), table);
    }
    answers.grid.describe(table);
    return table;
}

/// With the six digits that tables show.
std::string short_number(const std::string& text) {
    return text.find('.') == std::string::npos ? text : fmt::format("{:.6g}", std::stod(text));
}

std::string short_interval(const std::string& text) {
    const std::size_t dots = text.find("..");
    return dots == std::string::npos ? short_number(text)
                                     : short_number(text.substr(0, dots)) + ".." + short_number(text.substr(dots + 2));
}

/// The first few of a list of intervals, for people.
std::string shortened(const std::string& intervals) {
    constexpr int most = 3;
    if (intervals.empty()) {
        return "none";
    }
    std::string text;
    std::size_t begin = 0;
    for (int i = 0; i < most && begin < intervals.size(); ++i) {
        const std::size_t end = std::min(intervals.find(", ", begin), intervals.size());
        text += (i > 0 ? ", " : "") + short_interval(intervals.substr(begin, end - begin));
        begin = end + 2;
    }
    const auto rest = static_cast<std::ptrdiff_t>(std::min(begin, intervals.size()));
    const auto more = std::count(intervals.begin() + rest, intervals.end(), ',') + (begin < intervals.size() ? 1 : 0);
    return more > 0 ? fmt::format("{}, {} more", text, more) : text;
}

Table with_shortened_intervals(Table table) {
    for (Column& column : table.columns) {
        if (column.name == "reaching") {
            for (std::string& intervals : std::get<std::vector<std::string>>(column.values)) {
                intervals = shortened(intervals);
            }
        }
    }
    return table;
}

void print(const Table& table, const Arguments& arguments, Terminal& terminal) {
    if (print_for_program(table, arguments, terminal)) {
        return;
    }
    std::vector<ShownColumn> parameters = point_parameters();
    std::vector<ShownColumn> shown = theory_answers(table);
    if (arguments.given("shared-mean")) {
        for (ShownColumn& column : rounding_answers()) {
            shown.push_back(std::move(column));
        }
    }
    if (!arguments.given("solve")) {
        terminal.out << human_table(table, parameters, shown);
        return;
    }
    const Inverse& inverse = inverse_of(arguments);
    std::erase_if(parameters, [&](const ShownColumn& parameter) { return parameter.name == inverse.column.name; });
    parameters.push_back({"searched", "searched " + inverse.symbol});
    shown.insert(shown.begin(), {inverse.column, {"reached", "reached"}, {"reaching", inverse.symbol + " that reach"}});
    if (table.has("trivial_from")) {
        shown.insert(shown.begin() + 3, {"trivial_from", "trivial from"});
    }
    terminal.out << human_table(with_shortened_intervals(table), parameters, shown);
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
    const int threads = thread_count(arguments.given("threads") ? worker_threads(arguments) : this_rank().own_cores);
    const Answers found = answers(arguments, threads);
    found.grid.report("theory", terminal);
    const Table table = theory_table(found, arguments, threads, terminal);
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
        "that reaches --wanted-hit; beside it every value that does, as intervals. Searched are head-dim from 2 to "
        "65536, block-size from the cluster's size to 65536 (and less than seq-len), topk up to the number of blocks "
        "or 512, mu-signal from 0 to 1. The largest block-size is one that leaves the router a choice: from `trivial "
        "from` on all past blocks are kept. Exit code 1 when a point has no answer.\n"
        "\n"
        "--shared-mean adds the expected share of rows that keep other blocks because centroids are rounded to bf16 or "
        "fp16: a mean that all keys share cancels in exact scores and makes rounded ones coarse.",
        point_flags() + needle_flags() + text_flags() + scorer_flags() + rounding_flags() +
            std::vector<Flag>{{"solve", "FLAG", "", "solve for head-dim, block-size, topk or mu-signal"},
                              {"wanted-hit", "P", "0.99", "hit probability --solve must reach"}} +
            std::vector<Flag>{{"threads", "N", "", "worker threads, without it all; results do not depend on it"}} +
            output_flags() + progress_flag() + table_flags(),
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
         {"theory --block-size 128 --seq-len 8K --topk 4 --shared-mean 0,3,10,50",
          "how many rows the format of centroids changes"},
         {"theory --solve block-size --wanted-hit 0.999 --seq-len 8K,32K,128K",
          "the largest block that still finds the needle 999 times of 1000"}},
        "",
        run_theory};
}

}  // namespace mobalab::experiments
