#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "analysis/routing_point.h"
#include "experiments/base/build_info.h"
#include "experiments/cli/progress.h"
#include "experiments/commands/probe_flags.h"
#include "experiments/commands/subcommands.h"
#include "experiments/points/shown_columns.h"
#include "experiments/results/csv_text.h"
#include "experiments/results/table_text.h"
#include "experiments/trained/training_reader.h"
#include "experiments/trained/training_tables.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;

std::vector<Flag> training_flags() {
    return std::vector<Flag>{{"records", "PATH", "",
                              "records of trained models (JSON lines); may be given without the flag's name, and more "
                              "than one"},
                             {"confidence", "P", "0.95", "confidence of the intervals"}} +
           output_flags() + table_flags();
}

const Table* table_named(const std::vector<Table>& tables, const std::string& name) {
    const auto found = std::ranges::find(tables, name, &Table::name);
    return found == tables.end() ? nullptr : &*found;
}

/// The rows of a table that are wanted.
Table rows_where(const Table& table, const std::function<bool(std::size_t row)>& wanted) {
    Table kept = table;
    for (Column& column : kept.columns) {
        std::visit(
            [&](auto& values) {
                std::size_t row = 0;
                std::erase_if(values, [&](const auto&) { return !wanted(row++); });
            },
            column.values);
    }
    return kept;
}

/// Each run at its last step.
Table last_steps(const Table& validation) {
    const std::vector<std::string>& runs = validation.texts("run");
    const std::vector<std::int64_t>& steps = validation.integers("step");
    std::map<std::string, std::int64_t> last;
    for (std::size_t row = 0; row < runs.size(); ++row) {
        last[runs[row]] = std::max(last[runs[row]], steps[row]);
    }
    return rows_where(validation, [&](std::size_t row) { return steps[row] == last.at(runs[row]); });
}

void print_arms(const Table& arms, Terminal& terminal) {
    terminal.out << human_table(
        arms,
        {{"experiment", "experiment"}, {"arm", "arm"}, {"variant", "variant"}, {"seq_len", "N"}, {"seeds", "seeds"}},
        {{"accuracy", "accuracy"},
         {"accuracy_low", "low"},
         {"accuracy_high", "high"},
         {"predicted_accuracy", "predicted"},
         {"any_hit", "any_hit"},
         {"predicted_any_hit", "predicted_any_hit"}});
}

void print_validation(const Table& validation, Terminal& terminal) {
    terminal.out << human_table(last_steps(validation), {{"run", "run"}, {"seq_len", "N"}, {"step", "step"}},
                                {{"loss", "loss"},
                                 {"loss_low", "low"},
                                 {"loss_high", "high"},
                                 {"loss_above_dense", "above_dense"},
                                 {"loss_above_dense_low", "low"},
                                 {"loss_above_dense_high", "high"}});
}

/// Of all arms, and at the length that training ends with of those with and without a key convolution.
void print_errors(const Table& errors, Terminal& terminal) {
    const std::vector<std::string>& arms = errors.texts("arm");
    const std::vector<std::string>& lengths = errors.texts("lengths");
    const auto is_shown = [&](std::size_t row) {
        return arms[row] == "all" || (lengths[row] == "shortest" && arms[row].ends_with("key convolution"));
    };
    terminal.out << human_table(
        rows_where(errors, is_shown),
        {{"quantity", "predicted"}, {"arm", "arms"}, {"lengths", "lengths"}, {"runs", "runs"}, {"values", "values"}},
        {{"mean_error", "mean_error"},
         {"mean_absolute_error", "mean_absolute"},
         {"mean_absolute_error_low", "low"},
         {"mean_absolute_error_high", "high"}});
}

void print(const std::vector<Table>& tables, const Arguments& arguments, Terminal& terminal) {
    if (print_for_program(tables.front(), arguments, terminal)) {
        return;
    }
    const Table* runs = table_named(tables, "training_runs");
    terminal.out << fmt::format("{} trained models\n", runs->rows());
    if (const Table* arms = table_named(tables, "training_arms")) {
        terminal.out << "\n";
        print_arms(*arms, terminal);
    }
    if (const Table* validation = table_named(tables, "training_validation")) {
        terminal.out << "\n";
        print_validation(*validation, terminal);
    }
    if (const Table* errors = table_named(tables, "training_errors")) {
        terminal.out << "\npredictions from statistics of the models' own keys:\n";
        print_errors(*errors, terminal);
    }
}

Results results_of(const std::vector<Table>& tables, const Arguments& arguments) {
    Results results = new_results("training");
    std::string text = "training\n" + arguments.settings();
    for (const Table& table : tables) {
        text += "\n" + table.name + "\n" + csv_table(table);
    }
    results.task = task_id(text);
    results.command = arguments.command_line();
    results.settings = arguments.settings();
    results.device = cpu_name();
    results.tables = tables;
    return results;
}

int run_training(const Arguments& arguments, Terminal& terminal) {
    const std::vector<std::string> paths = arguments.lines("records");
    if (paths.empty()) {
        throw InputError("records: name at least one file of records, like mobalab training recall.jsonl");
    }
    if (arguments.on("force") && !arguments.given("out")) {
        throw InputError("force: is about a results file; name it with --out");
    }
    const double confidence = interval_confidence(arguments);
    std::optional<ResultsOutput> output;
    if (arguments.given("out")) {
        output.emplace(arguments.text("out"), arguments.on("force"));
    }
    const TrainingRecords records = read_training_records(paths);
    std::vector<Table> tables;
    {
        ProgressDisplay display(terminal, "training");
        const TrainedOutcomes outcomes = outcomes_of(
            records, confidence, [&](double fraction, const std::string& text) { display.update(fraction, text); });
        tables = training_tables(records, outcomes, confidence);
    }
    if (output) {
        output->commit(results_of(tables, arguments));
    }
    print(tables, arguments, terminal);
    return exit_ok;
}

}  // namespace

Subcommand training_command() {
    return {
        "training",
        "what trained models retrieve, beside what theory predicts from their keys",
        "Reads the records that trainings write (experiments/training: JSON lines, a line an object) and holds beside "
        "each measurement what theory makes of the model's own score statistics. A head's hit probability is the exact "
        "integral for the mean and spread of its pair's standardised score and its numbers of candidates, no normal "
        "limit; the scorer random has (k - 1) / c. Accuracy is predicted as own share + (1 - own share) (1 - product "
        "over "
        "the heads of all MoBA layers of (1 - hit)): heads taken for independent, and what is routed answered. Where "
        "that "
        "is off, any_hit (what the heads found together) and found_share tell dependence between heads from what is "
        "lost "
        "in reading out. With a recorded signal_correlation there is also the prediction for heads that depend on each "
        "other through it.\n"
        "\n"
        "Intervals are clustered by sequences; those of an arm are over its runs, which differ in their seed. The "
        "results "
        "file has the tables training (a row a run and length; --csv and --json print it, or the first that there is), "
        "training_arms, training_errors (mean absolute errors with counts), training_heads, training_curves, "
        "training_runs "
        "and, of language models, training_validation, training_positions and training_needles.\n"
        "\n"
        "Records are read strictly: the first thing wrong in them is an error that names file and line. Exit code 0: "
        "read "
        "and compared, whatever the errors of predictions are; 2: bad records or arguments.",
        training_flags(),
        {{"training recall.jsonl", "arms, measured and predicted, and how far predictions are off"},
         {"training recall.jsonl language.jsonl --out training.h5", "two experiments to one results file"},
         {"training recall.jsonl --csv", "every run and length, every column"}},
        "records",
        run_training,
        false,
        true};
}

}  // namespace mobalab::experiments
