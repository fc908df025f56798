#include <fmt/format.h>

#include <ostream>

#include "analysis/binomial_interval.h"
#include "analysis/routing_point.h"
#include "experiments/base/values.h"
#include "experiments/commands/subcommands.h"
#include "experiments/points/shown_columns.h"
#include "experiments/results/column_builder.h"
#include "experiments/results/table_text.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;

/// Above it a double does not hold every count.
constexpr std::int64_t most_trials = std::int64_t{1} << 53U;

struct Row {
    std::int64_t trials;
    std::int64_t misses;
    analysis::Interval interval;
};

/// A list of counts, in which a value may come twice.
std::vector<std::int64_t> counts(const Arguments& arguments, const std::string& name) {
    if (!arguments.given(name)) {
        throw InputError(name + ": give the counts, as in mobalab interval --misses 3,0 --trials 100,100");
    }
    std::vector<std::int64_t> values;
    for (const std::string& word : arguments.texts(name)) {
        values.push_back(parse_integer(name, word, {0, most_trials}));
    }
    return values;
}

std::vector<Row> rows_of(const Arguments& arguments, double confidence) {
    const std::vector<std::int64_t> misses = counts(arguments, "misses");
    const std::vector<std::int64_t> trials = counts(arguments, "trials");
    if (misses.size() != trials.size()) {
        throw InputError(fmt::format("misses, trials: are lists of {} and {}; nearest valid choice: as many of both",
                                     misses.size(), trials.size()));
    }
    std::vector<Row> rows;
    for (std::size_t i = 0; i < misses.size(); ++i) {
        if (misses[i] > trials[i]) {
            throw InputError(fmt::format("misses = {}: must be at most the {} trials; nearest valid choice: {}",
                                         misses[i], trials[i], trials[i]));
        }
        rows.push_back({trials[i], misses[i],
                        analysis::clopper_pearson(static_cast<double>(misses[i]), static_cast<double>(trials[i]),
                                                  1.0 - confidence)});
    }
    return rows;
}

int run_interval(const Arguments& arguments, Terminal& terminal) {
    const double confidence = arguments.real("confidence", 0.5, 1.0 - 1e-12);
    const std::vector<Row> rows = rows_of(arguments, confidence);
    const Table table{
        .name = "interval",
        .columns = {make_column(rows, "trials", "trials", [](const Row& row) { return row.trials; }),
                    make_column(rows, "misses", "misses", [](const Row& row) { return row.misses; }),
                    make_column(rows, "miss", "misses / trials", [](const Row& row) { return row.interval.value; }),
                    make_column(rows, "low", "lower end of the interval of miss",
                                [](const Row& row) { return row.interval.low; }),
                    make_column(rows, "high", "upper end of the interval of miss",
                                [](const Row& row) { return row.interval.high; })}};
    if (!print_for_program(table, arguments, terminal)) {
        terminal.out << human_table(
            table, {},
            {{"trials", "trials"}, {"misses", "misses"}, {"miss", "miss"}, {"low", "low"}, {"high", "high"}});
    }
    return exit_ok;
}

}  // namespace

Subcommand interval_command() {
    return {"interval",
            "the interval of counts from anywhere: misses of independent trials",
            "The Clopper-Pearson interval of the miss probability, as simulate and combine give it: whatever the truth "
            "is, it lies outside with probability 1 - confidence at most. For trials that are independent; the probes "
            "of route share keys, and their intervals stand in its own table.",
            std::vector<Flag>{{"misses", "LIST", "", "misses; a list has as many as --trials"},
                              {"trials", "LIST", "", "trials, the misses included"},
                              {"confidence", "P", "0.95", "confidence of the intervals"}} +
                table_flags(),
            {{"interval --misses 0 --trials 1000", "nothing missed in a thousand trials"},
             {"interval --misses 3,17 --trials 100,1000 --confidence 0.99 --json", "two counts, for a program"}},
            "",
            run_interval};
}

}  // namespace mobalab::experiments
