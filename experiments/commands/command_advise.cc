#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "analysis/routing_point.h"
#include "experiments/advise/advice.h"
#include "experiments/advise/advice_tables.h"
#include "experiments/advise/advice_text.h"
#include "experiments/advise/kernel_times.h"
#include "experiments/advise/length_rule.h"
#include "experiments/commands/advise_source.h"
#include "experiments/commands/subcommands.h"
#include "experiments/points/shown_columns.h"
#include "experiments/results/csv_text.h"
#include "experiments/results/table_text.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;

std::vector<Flag> advise_flags() {
    return std::vector<Flag>{
               {"budget-keys", "K", "", "budget: at most so many keys a query, B k"},
               {"budget-ms", "T", "", "budget: at most so many milliseconds of a forward pass by the kernel table"},
               {"recall", "R", "", "budget: the fewest keys that reach this mean mass recall (of theory: hit)"},
               {"seq-len", "N", "", "tokens; of measurements their own length unless another is asked for"},
               {"dense-below", "R", "0.5", "a head should stay dense where the high end of its recall is under this"},
               {"kernel-table", "PATH", "", "measured times to use instead of the program's (of an H100)"}} +
           advise_source_flags() + output_flags() + table_flags();
}

Budget budget_of(const Arguments& arguments) {
    const bool keys = arguments.given("budget-keys");
    const bool milliseconds = arguments.given("budget-ms");
    const bool recall = arguments.given("recall");
    if (static_cast<int>(keys) + static_cast<int>(milliseconds) + static_cast<int>(recall) != 1) {
        throw InputError("budget-keys, budget-ms, recall: give exactly one of the three, like --budget-keys 1024");
    }
    if (keys) {
        return {Budget::Kind::keys, static_cast<double>(arguments.integer("budget-keys", 1, most_advised_tokens))};
    }
    if (milliseconds) {
        return {Budget::Kind::milliseconds,
                arguments.inside("budget-ms", {.least = 0.0, .most = HUGE_VAL, .lowest = 1.0, .highest = 1e9})};
    }
    return {Budget::Kind::recall, arguments.real("recall", 0.0, 1.0)};
}

/// Refuses evidence without a setting that can be advised within this kind of budget.
void require_known_costs(const Evidence& evidence, const Budget& budget, const KernelTimes& times,
                         std::int64_t seq_len) {
    const auto any = [&](auto holds) {
        return std::any_of(evidence.candidates.begin(), evidence.candidates.end(), holds);
    };
    if (!any([](const Candidate& candidate) { return can_be_advised(candidate.setting.scorer); })) {
        throw InputError(
            "scorer: no setting is of a scorer that the kernels run and that looks at the keys, so none can be "
            "advised; "
            "nearest valid: mean");
    }
    if (!any([&](const Candidate& candidate) { return !std::isnan(cost_of(candidate, budget)); })) {
        throw InputError(fmt::format(
            "budget-ms = {}: {} ({}) holds none of the settings at d {}, N {}, and nothing is extrapolated; nearest "
            "valid: --budget-keys, or a --kernel-table that holds them",
            budget.amount, times.name(), times.range(), evidence.head_dim, seq_len));
    }
}

struct Advised {
    AdviseSource source;
    Budget budget;
    double dense_below;
    Advice advice;
    std::string warning;  ///< about the length; empty: none

    const Evidence& evidence() const { return source.evidence; }
    std::string sentence() const { return recommendation(evidence(), advice, budget); }
    std::vector<std::string> notes() const { return advice_notes(evidence(), advice, dense_below); }
};

Advised advised(const Arguments& arguments, Terminal& terminal) {
    const Budget budget = budget_of(arguments);
    const double dense_below = arguments.real("dense-below", 0.0, 1.0);
    const KernelTimes times =
        arguments.given("kernel-table") ? KernelTimes::read(arguments.text("kernel-table")) : KernelTimes::shipped();
    AdviseSource source = advise_source(arguments, budget, terminal);
    Evidence& evidence = source.evidence;
    if (arguments.given("dense-below") && !evidence.measured) {
        throw InputError("dense-below: is about measured heads; leave it out of theory");
    }
    const std::int64_t seq_len =
        arguments.given("seq-len") ? arguments.integer("seq-len", 1, most_advised_tokens) : evidence.seq_len;
    std::string warning = length_warning(evidence, seq_len);
    add_milliseconds(evidence, times, seq_len);
    require_known_costs(evidence, budget, times, seq_len);
    Advice advice = advise(evidence, budget, dense_below);
    return {std::move(source), budget, dense_below, std::move(advice), std::move(warning)};
}

std::vector<Table> tables_of(const Advised& all) {
    std::vector<Table> tables = advice_tables(all.evidence(), all.advice, all.dense_below);
    std::map<std::string, Attribute>& said = tables.front().attributes;
    said["recommendation"] = all.sentence();
    said["dense_below"] = all.dense_below;
    said["budget"] = to_string(all.budget);
    said["evidence"] = all.evidence().origin;
    said["notes"] = fmt::format("{}", fmt::join(all.notes(), "\n"));
    if (!all.warning.empty()) {
        said["warning"] = all.warning;
    }
    if (all.source.measured) {
        tables.push_back(*all.source.measured);
    }
    return tables;
}

void print_frontier(const Advised& all, Terminal& terminal) {
    const Table table = frontier_table(all.evidence(), all.advice);
    std::vector<ShownColumn> answers;
    if (all.evidence().measured) {
        answers = {{"mean_mass_recall", "recall"},
                   {"mean_mass_recall_low", "low"},
                   {"mean_mass_recall_high", "high"},
                   {"worst_head_recall", "worst head"},
                   {"mean_needle_hit", "needle"}};
    } else {
        answers = {{"mean_needle_hit", "hit"}};
    }
    const std::vector<double>& times = table.reals("milliseconds");
    if (std::any_of(times.begin(), times.end(), [](double time) { return !std::isnan(time); })) {
        answers.push_back({"milliseconds", "ms"});
    }
    answers.push_back({"chosen", "chosen"});
    terminal.out << human_table(table,
                                {{"source", "source"},
                                 {"seq_len", "N"},
                                 {"scorer", "scorer"},
                                 {"keep_first", "keep_first"},
                                 {"block_size", "B"},
                                 {"topk", "k"},
                                 {"keys_attended", "keys"}},
                                answers);
}

void print(const Advised& all, const Table& table, const Arguments& arguments, Terminal& terminal) {
    if (!all.warning.empty()) {
        terminal.err << "mobalab advise: warning: " << all.warning << "\n";
    }
    if (print_for_program(table, arguments, terminal)) {
        terminal.err << "mobalab advise: " << all.sentence() << "\n";
        return;
    }
    terminal.out << all.sentence() << "\n\n" << all.evidence().origin << "; the frontier:\n";
    print_frontier(all, terminal);
    terminal.out << "\n";
    for (const std::string& note : all.notes()) {
        terminal.out << "- " << note << "\n";
    }
}

int run_advise(const Arguments& arguments, Terminal& terminal) {
    if (arguments.on("force") && !arguments.given("out")) {
        throw InputError("force: is about a results file; name it with --out");
    }
    std::optional<ResultsOutput> output;
    if (arguments.given("out")) {
        output.emplace(arguments.text("out"), arguments.on("force"));
    }
    const Advised all = advised(arguments, terminal);
    const std::vector<Table> tables = tables_of(all);
    if (output) {
        Results results = new_results("advise");
        results.task = task_id("advise\n" + arguments.without("threads").settings() + "\n" + csv_table(tables.front()));
        results.command = arguments.command_line();
        results.settings = arguments.settings();
        results.device = all.source.device;
        results.tables = tables;
        output->commit(results);
    }
    print(all, tables.front(), arguments, terminal);
    return all.advice.chosen ? exit_ok : exit_disagree;
}

}  // namespace

Subcommand advise_command() {
    return {
        "advise",
        "which block size, k, scorer and kept block to take, and what is lost",
        "Reads what `mobalab measure` found, or measures traces first (with a default grid), and says in one sentence "
        "which setting to take within a budget: of keys a "
        "query attends to (B k), of milliseconds of the CUDA kernels as measured on an H100, or of mean mass recall, "
        "which the low end of the interval must reach with the fewest keys. Then the frontier of recall against cost, "
        "which settings cannot be told from the chosen one, which heads should stay dense and what the recall is then, "
        "and what the latest blocks or the best of all blocks would hold. Only scorers that the kernels run are "
        "recommended.\n"
        "\n"
        "The interval of a mean over heads is the mean of the heads' intervals: heads share the rows they were "
        "measured "
        "on. A head should stay dense where the whole interval of its recall is under --dense-below: by default where "
        "it keeps less than half of the attention that the dense model pays to past blocks.\n"
        "\n"
        "Nothing is extrapolated. Another --seq-len shows the numbers of the measured length with a warning, and is "
        "refused beyond half and twice of it where distance explains the scores.\n"
        "\n"
        "Without any file the exact probability that independent keys and one needle (--head-dim, --seq-len and an "
        "affinity profile) give: there is no attention mass, the answer is whether the needle's block is kept. On "
        "heads "
        "of real models that was off by half on average: record a trace.\n"
        "\n"
        "Exit code 1 where no setting keeps the budget; what comes nearest is said.",
        advise_flags(),
        {{"advise measure.h5 --budget-keys 1024", "the best recall with 1024 keys a query"},
         {"advise measure.h5 --recall 0.9 --out advise.h5", "the fewest keys for a recall of 0.9, to a results file"},
         {"advise measure.h5 --budget-ms 2 --seq-len 8K", "what an H100 does in 2 ms"},
         {"advise measure.h5 --budget-keys 1024 --scorer mean --dense-below 0.7 --csv",
          "the mean alone, every setting as CSV"},
         {"advise layer05.safetensors --budget-keys 1024", "measures a trace first, and advises"},
         {"advise --head-dim 64 --seq-len 8K --profile 0.6,0.3,0.2 --budget-keys 1024",
          "without a trace: independent keys, and a needle with two related tokens"}},
        "file",
        run_advise,
        false,
        true};
}

}  // namespace mobalab::experiments
