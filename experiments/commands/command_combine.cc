#include <fmt/format.h>

#include <optional>
#include <ostream>
#include <set>

#include "analysis/routing_point.h"
#include "experiments/commands/subcommands.h"
#include "experiments/points/shown_columns.h"
#include "experiments/results/csv_text.h"
#include "experiments/results/table_text.h"
#include "experiments/simulation/combination.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;

std::vector<CombinationSource> sources_of(const Arguments& arguments) {
    const std::vector<std::string> paths = arguments.lines("files");
    if (paths.size() < 2) {
        throw InputError(fmt::format("files: name at least two results files of simulate, here {} given",
                                     paths.empty() ? "none is" : "one is"));
    }
    std::vector<CombinationSource> sources;
    for (const std::string& path : paths) {
        sources.push_back({path, read_results(path)});
    }
    return sources;
}

std::string devices_of(const std::vector<CombinationSource>& sources) {
    std::set<std::string> devices;
    for (const CombinationSource& source : sources) {
        devices.insert(source.results.device);
    }
    return fmt::format("{}", fmt::join(devices, ", "));
}

Results results_of(const std::vector<CombinationSource>& sources, std::vector<Table> tables,
                   const Arguments& arguments) {
    Results results = new_results("combine");
    std::string text = "combine\n";
    for (const Table& table : tables) {
        text += csv_table(table);
    }
    results.task = task_id(text);
    results.command = arguments.command_line();
    results.settings = fmt::format("files={}", fmt::join(arguments.lines("files"), ","));
    results.device = devices_of(sources);
    results.tables = std::move(tables);
    return results;
}

int run_combine(const Arguments& arguments, Terminal& terminal) {
    if (!arguments.given("out")) {
        throw InputError("out: name the results file to write");
    }
    ResultsOutput output(arguments.text("out"), arguments.on("force"));
    std::optional<double> confidence;
    if (arguments.given("confidence")) {
        confidence = arguments.real("confidence", 0.5, 1.0 - 1e-12);
    }
    const std::vector<CombinationSource> sources = sources_of(arguments);
    const Results results = results_of(sources, combined_tables(sources, confidence), arguments);
    output.commit(results);
    const Table& table = results.table("simulate");
    if (!print_for_program(table, arguments, terminal)) {
        terminal.out << human_table(table, simulated_parameters(), simulated_answers());
    }
    return exit_ok;
}

}  // namespace

Subcommand combine_command() {
    return {
        "combine",
        "one results file of several runs of simulate: counts of equal points added",
        "Adds the trials and misses of files that `mobalab simulate` wrote of the same points with different seeds (on "
        "different machines, say), and computes miss, low and high from the sums. The table streams keeps which seeds "
        "were added, so that a combination can be combined further and no seed is ever counted twice.\n"
        "\n"
        "The files must agree in everything but seed, trials and seconds: points, methods, --max-misses, "
        "--target-relative-error. Sums of counts stay an honest estimate under such rules, as each run's stop hangs on "
        "its own trials alone (E[misses] = p E[trials]); choose the files before you look at what they hold. Points of "
        "method conditional are refused: a file keeps their mean, not the sums it takes to add them; ask one run for "
        "more instead. So are files of theory, which has no counts, and of route and validate, whose probes share "
        "keys.",
        std::vector<Flag>{{"files", "PATH", "", "results files of simulate or combine"},
                          {"confidence", "P", "", "confidence of the intervals; without it that of the first file"}} +
            output_flags() + table_flags(),
        {{"combine a.h5 b.h5 --out both.h5", "the sum of two runs, as simulate --seed 1 and --seed 2 wrote them"},
         {"combine both.h5 c.h5 --out all.h5 --csv", "one more, as CSV too"}},
        "files",
        run_combine,
        false,
        true};
}

}  // namespace mobalab::experiments
