#include <fmt/format.h>

#include <ostream>

#include "analysis/routing_point.h"
#include "experiments/base/values.h"
#include "experiments/commands/subcommands.h"
#include "experiments/points/shown_columns.h"
#include "experiments/results/results_file.h"
#include "experiments/results/table_text.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;

/// --table; without it the file's first.
const Table& wanted_table(const Results& results, const Arguments& arguments) {
    std::vector<std::string> names;
    for (const Table& table : results.tables) {
        names.push_back(table.name);
    }
    if (names.empty()) {
        throw FileError(arguments.text("file") + ": holds no table");
    }
    return results.table(arguments.given("table") ? arguments.choice("table", names) : names.front());
}

std::string list_of_tables(const Results& results) {
    std::string text;
    for (const Table& table : results.tables) {
        text += fmt::format("{}: {} row{}, {} columns\n", table.name, table.rows(), table.rows() == 1 ? "" : "s",
                            table.columns.size());
    }
    return text;
}

int run_table(const Arguments& arguments, Terminal& terminal) {
    if (!arguments.given("file")) {
        throw InputError("file: name a results file, like mobalab table results.h5 --csv");
    }
    const Results results = read_results(arguments.text("file"));
    const bool program = arguments.on("json") || arguments.on("csv");
    if (!program && !arguments.given("table")) {
        terminal.out << list_of_tables(results);
        return exit_ok;
    }
    const Table& table = wanted_table(results, arguments);
    if (!print_for_program(table, arguments, terminal)) {
        std::vector<ShownColumn> all;
        for (const Column& column : table.columns) {
            all.push_back({column.name, column.name});
        }
        terminal.out << human_table(table, {}, all);
    }
    return exit_ok;
}

}  // namespace

Subcommand table_command() {
    return {"table",
            "the tables of a results file: as CSV, JSON or text",
            "Without --table, --csv and --json: names, rows and columns of the tables in the file. Else one table, the "
            "file's first unless --table names another, with the names its columns have in the file.\n"
            "\n"
            "CSV is that of RFC 4180: a header, then a line a row; numbers are the shortest decimals that read back as "
            "the same double, what a row does not have is empty. JSON is an array with one object a row, with null "
            "there.",
            std::vector<Flag>{{"file", "PATH", "", "results file to read"},
                              {"table", "NAME", "", "table to print; without it the first"}} +
                table_flags(),
            {{"table results.h5", "which tables the file holds"},
             {"table results.h5 --csv", "the first table, for a spreadsheet"},
             {"table results.h5 --table validate_comparisons --json", "another table, for a program"}},
            "file",
            run_table};
}

}  // namespace mobalab::experiments
