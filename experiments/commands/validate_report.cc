#include "experiments/commands/validate_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <ostream>
#include <utility>

#include "experiments/base/values.h"
#include "experiments/commands/rounding_report.h"
#include "experiments/points/shown_columns.h"
#include "experiments/results/table_text.h"

namespace mobalab::experiments {
namespace {

using analysis::RoutingPoint;

constexpr std::size_t rows_shown = 40;
constexpr std::size_t worst_shown = 5;

// What the report needs of a table of comparisons, whether just made or read from a file.
struct Verdict {
    std::vector<std::size_t> worst;  // rows of the table, smallest p first
    bool agrees = true;
};

Verdict verdict_of(const Table& comparisons, double alpha) {
    const std::vector<double>& p_values = comparisons.reals("p_value");
    const std::vector<double>& adjusted = comparisons.reals("adjusted_p");
    Verdict verdict;
    for (std::size_t i = 0; i < adjusted.size(); ++i) {
        verdict.worst.push_back(i);
        verdict.agrees = verdict.agrees && adjusted[i] >= alpha;  // NaN disagrees
    }
    std::stable_sort(verdict.worst.begin(), verdict.worst.end(),
                     [&](std::size_t a, std::size_t b) { return p_values[a] < p_values[b]; });
    return verdict;
}

// What only keys along a text have.
std::string flags_of_text(const RoutingPoint& point) {
    std::string flags = analysis::definition_of(point.model).text_keys ? " --model text" : "";
    const auto add = [&flags](const char* flag, double value) {
        flags += value != 0.0 ? fmt::format(" --{} {}", flag, shortest(value)) : "";
    };
    add("key-correlation", point.key_correlation);
    add("key-memory", static_cast<double>(point.key_memory));
    add("key-mean", point.key_mean);
    add("query-mean", point.query_mean);
    add("effective-dim", point.effective_dim);
    add("sink", point.sink);
    return flags;
}

// A command that repeats one point: same streams, same counts, whatever grid it was part of.
std::string command_of_point(const RoutingPoint& point, const Arguments& arguments) {
    const std::string length = point.seq_len > 0 ? fmt::format("--seq-len {}", point.seq_len)
                                                 : fmt::format("--candidates {}", point.candidates);
    std::string command = fmt::format(
        "mobalab validate --head-dim {} --block-size {} {} --topk {} --cluster-size {} --mu-signal {} "
        "--mu-cluster {}",
        point.head_dim, point.block_size, length, point.topk, point.cluster_size, shortest(point.mu_signal),
        shortest(point.mu_cluster));
    if (point.scorer != analysis::Scorer{}) {
        command += " --scorer " + analysis::to_string(point.scorer);
    }
    command += flags_of_text(point);
    for (const char* flag : {"seed", "probes", "key-sets", "trials", "dtype", "device", "router"}) {
        if (arguments.given(flag)) {
            command += fmt::format(" --{} {}", flag, arguments.text(flag));
        }
    }
    return command;
}

std::string comparison_text(const Table& comparisons, std::size_t row, const std::vector<RoutingPoint>& points,
                            const Arguments& arguments) {
    const std::int64_t point = comparisons.integers("point")[row];
    return fmt::format(
        "  {}: expected miss {:.6g}, seen {:.6g}, z {:+.2f}, adjusted p {:.3g}\n    {}\n",
        comparisons.texts("kind")[row], comparisons.reals("expected_miss")[row],
        comparisons.reals("observed_miss")[row], comparisons.reals("z")[row], comparisons.reals("adjusted_p")[row],
        point < 0 ? "all points together" : command_of_point(points[static_cast<std::size_t>(point)], arguments));
}

std::string verdict_text(const Table& comparisons, const std::vector<RoutingPoint>& points, double alpha,
                         const Arguments& arguments) {
    const Verdict verdict = verdict_of(comparisons, alpha);
    const std::size_t worst = verdict.worst.front();
    std::string text =
        fmt::format("{}: {} comparisons at {} point{}, smallest adjusted p {:.3g} ({}), family-wise error {}\n",
                    verdict.agrees ? "theory, simulation and kernel agree" : "DISAGREEMENT", comparisons.rows(),
                    points.size(), points.size() == 1 ? "" : "s", comparisons.reals("adjusted_p")[worst],
                    comparisons.texts("kind")[worst], shortest(alpha));
    for (std::size_t i = 0; !verdict.agrees && i < std::min(worst_shown, verdict.worst.size()); ++i) {
        if (!(comparisons.reals("adjusted_p")[verdict.worst[i]] >= alpha)) {
            text += comparison_text(comparisons, verdict.worst[i], points, arguments);
        }
    }
    return text;
}

// What the comparisons of all points together could have seen.
std::string power_text(const Table& comparisons) {
    std::string together;
    const std::vector<std::int64_t>& point = comparisons.integers("point");
    for (std::size_t i = 0; i < comparisons.rows(); ++i) {
        if (point[i] < 0 && comparisons.has("detectable_difference")) {
            together += fmt::format("{}{:.2g} ({})", together.empty() ? "" : ", ",
                                    comparisons.reals("detectable_difference")[i], comparisons.texts("kind")[i]);
        }
    }
    return together.empty()
               ? ""
               : fmt::format("found with probability 0.9 at that error: a mean miss probability off by {}\n", together);
}

void print_points(const Table& points, const Arguments& arguments, Terminal& terminal) {
    if (points.rows() > rows_shown) {
        terminal.out << fmt::format("{} points: {}\n", points.rows(),
                                    arguments.given("out") ? "the table is in " + arguments.text("out")
                                                           : "--out FILE.h5 keeps the table, --json prints it");
        return;
    }
    std::vector<ShownColumn> answers = {{"miss_probability", "exact_miss"}, {"gaussian_miss_probability", "paper_miss"},
                                        {"sim_miss", "simulated"},          {"kernel_expected_miss", "probe_exact"},
                                        {"kernel_miss", "kernel"},          {"kernel_trials", "probes"},
                                        {"adjusted_p", "adjusted_p"}};
    if (points.has("approximate_miss_probability")) {
        answers.insert(answers.begin() + 2, {"approximate_miss_probability", "approx_miss"});
    }
    if (points.has("shared_mean")) {
        for (ShownColumn& column : measured_rounding_answers()) {
            answers.push_back(std::move(column));
        }
    }
    terminal.out << fmt::format("seed {}, {} {} kernel, ", arguments.text("seed"), arguments.text("device"),
                                arguments.text("dtype"))
                 << human_table(points, point_parameters(), answers);
}

}  // namespace

Table with_adjusted_p(const Table& points, const Table& comparisons) {
    if (points.has("adjusted_p")) {
        return points;
    }
    std::vector<double> smallest(points.rows(), 1.0);
    const std::vector<std::int64_t>& point = comparisons.integers("point");
    const std::vector<double>& adjusted = comparisons.reals("adjusted_p");
    for (std::size_t i = 0; i < point.size(); ++i) {
        if (point[i] >= 0) {
            double& target = smallest[static_cast<std::size_t>(point[i])];
            target = std::min(target, adjusted[i]);
        }
    }
    Table result = points;
    result.columns.push_back({.name = "adjusted_p",
                              .long_name = "smallest adjusted p of the point's comparisons",
                              .units = "1",
                              .values = std::move(smallest)});
    return result;
}

int report_validation(const Table& points, const Table& comparisons, const std::vector<RoutingPoint>& grid,
                      double alpha, const Arguments& arguments, Terminal& terminal) {
    const Table shown = with_adjusted_p(points, comparisons);
    const std::string verdict = verdict_text(comparisons, grid, alpha, arguments) + power_text(comparisons);
    if (print_for_program(shown, arguments, terminal)) {
        terminal.err << verdict;
    } else {
        print_points(shown, arguments, terminal);
        terminal.out << verdict;
    }
    return verdict_of(comparisons, alpha).agrees ? exit_ok : exit_disagree;
}

}  // namespace mobalab::experiments
