#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "analysis/limits.h"
#include "analysis/routing_point.h"
#include "experiments/advise/advice.h"
#include "experiments/advise/advice_tables.h"
#include "experiments/advise/advice_text.h"
#include "experiments/advise/kernel_times.h"
#include "experiments/advise/length_rule.h"
#include "experiments/advise/measured_evidence.h"
#include "experiments/advise/theory_evidence.h"
#include "experiments/base/build_info.h"
#include "experiments/base/values.h"
#include "experiments/commands/subcommands.h"
#include "experiments/points/shown_columns.h"
#include "experiments/results/csv_text.h"
#include "experiments/results/table_text.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;

constexpr std::int64_t most_tokens = std::int64_t{1} << 30U;
constexpr const char* default_blocks = "16:512:x2";
constexpr const char* default_budgets = "512:4K:x2";

const std::vector<std::string> flags_of_theory = {"head-dim",  "model",        "profile",
                                                  "mu-signal", "cluster-size", "mu-cluster"};
const std::vector<std::string> flags_of_measurements = {"trace", "dense-below"};

std::vector<Flag> advise_flags() {
    return std::vector<Flag>{
               {"file", "PATH", "", "results file of `mobalab measure`; may be given without the flag's name"},
               {"budget-keys", "K", "", "budget: at most so many keys a query, B k"},
               {"budget-ms", "T", "", "budget: at most so many milliseconds of a forward pass by the kernel table"},
               {"recall", "R", "", "budget: the fewest keys that reach this mean mass recall (without a file: hit)"},
               {"seq-len", "N", "", "tokens; with a file its own length unless another is asked for"},
               {"block-size", "LIST", "",
                fmt::format("block sizes to choose among; without it all of the file, or {}", default_blocks)},
               {"topk", "LIST", "",
                fmt::format("k to choose among; without it all of the file, or {} keys and the budget's over B",
                            default_budgets)},
               {"scorer", "LIST", "", "scorers to choose among; without it all of the file, or mean"},
               {"keep-first", "NAME", "", "block 0 always kept: off, on, both; without it both, without a file off"},
               {"trace", "LIST", "", "with a file: only these of its traces"},
               {"dense-below", "R", "0.5",
                "with a file: a head stays dense where the high end of its recall is under this"},
               {"kernel-table", "PATH", "", "measured times to use instead of the program's (of an H100)"},
               {"head-dim", "D", "", "without a file: width of a head"},
               {"model", "NAME", "sphere", "without a file: sphere (unit keys), gaussian or gaussian-fixed"},
               {"profile", "LIST", "",
                "without a file: affinities q.k of the needle and of the tokens behind it in its block"},
               {"mu-signal", "MU", "0.8", "without a file or --profile: affinity of the needle"},
               {"cluster-size", "M", "1", "without a file or --profile: related tokens, the needle included"},
               {"mu-cluster", "MU", "0", "without a file or --profile: affinity of the other related tokens"}} +
           output_flags() + table_flags();
}

void refuse(const Arguments& arguments, const std::vector<std::string>& flags, const std::string& rule) {
    for (const std::string& flag : flags) {
        if (arguments.given(flag)) {
            throw InputError(fmt::format("{} = {}: {}", flag, arguments.text(flag), rule));
        }
    }
}

double positive_real(const Arguments& arguments, const std::string& flag) {
    const double value = arguments.real(flag, 0.0, HUGE_VAL);
    if (!(value > 0.0 && std::isfinite(value))) {
        throw InputError(fmt::format("{} = {}: must be above 0; nearest valid: 1", flag, arguments.text(flag)));
    }
    return value;
}

Budget budget_of(const Arguments& arguments) {
    const bool keys = arguments.given("budget-keys");
    const bool milliseconds = arguments.given("budget-ms");
    const bool recall = arguments.given("recall");
    if (static_cast<int>(keys) + static_cast<int>(milliseconds) + static_cast<int>(recall) != 1) {
        throw InputError("budget-keys, budget-ms, recall: give exactly one of the three, like --budget-keys 1024");
    }
    if (keys) {
        return {Budget::Kind::keys, static_cast<double>(arguments.integer("budget-keys", 1, most_tokens))};
    }
    if (milliseconds) {
        return {Budget::Kind::milliseconds, positive_real(arguments, "budget-ms")};
    }
    return {Budget::Kind::recall, arguments.real("recall", 0.0, 1.0)};
}

std::vector<std::int64_t> integers_or(const Arguments& arguments, const std::string& flag, const std::string& other) {
    return arguments.given(flag) ? arguments.integers(flag, 1, most_tokens)
           : other.empty()       ? std::vector<std::int64_t>{}
                                 : arguments.with(flag, other).integers(flag, 1, most_tokens);
}

std::vector<bool> keep_first_of(const Arguments& arguments, const std::vector<bool>& otherwise) {
    if (!arguments.given("keep-first")) {
        return otherwise;
    }
    const std::string choice = arguments.choice("keep-first", {"off", "on", "both"});
    return choice == "both" ? std::vector<bool>{false, true} : std::vector<bool>{choice == "on"};
}

std::vector<double> profile_of(const Arguments& arguments) {
    const std::vector<std::string> parts = {"mu-signal", "cluster-size", "mu-cluster"};
    if (arguments.given("profile")) {
        refuse(arguments, parts, "--profile says that too; give one of the two");
        return arguments.reals("profile", -1.0, 1.0);
    }
    std::vector<double> profile(static_cast<std::size_t>(arguments.integer("cluster-size", 1, 65536)),
                                arguments.real("mu-cluster", -1.0, 1.0));
    profile.front() = arguments.real("mu-signal", 0.0, 1.0);
    return profile;
}

SettingGrid grid_of(const Arguments& arguments, const Budget& budget) {
    SettingGrid grid{.block_sizes = integers_or(arguments, "block-size", default_blocks),
                     .topks = integers_or(arguments, "topk", ""),
                     .budgets = {},
                     .scorers = {"mean"},
                     .keep_first = keep_first_of(arguments, {false})};
    if (grid.topks.empty()) {
        grid.budgets = parse_integers("topk", default_budgets, {1, most_tokens});
        if (budget.kind == Budget::Kind::keys) {
            grid.budgets.push_back(static_cast<std::int64_t>(budget.amount));
        }
    }
    if (arguments.given("scorer")) {
        grid.scorers = arguments.texts("scorer");
    }
    return grid;
}

Evidence evidence_of_theory(const Arguments& arguments, const Budget& budget) {
    refuse(arguments, flags_of_measurements, "is about a file of measurements, and none is named");
    for (const char* flag : {"head-dim", "seq-len"}) {
        if (!arguments.given(flag)) {
            throw InputError(fmt::format(
                "{}: name a results file of `mobalab measure`, or give --head-dim, --seq-len and an affinity profile",
                flag));
        }
    }
    return theory_evidence({.model = analysis::parse_model(arguments.text("model")),
                            .head_dim = arguments.integer("head-dim", analysis::least_head_dim, no_limit),
                            .seq_len = arguments.integer("seq-len", 1, most_tokens),
                            .profile = profile_of(arguments)},
                           grid_of(arguments, budget));
}

Evidence evidence_of_file(const Arguments& arguments) {
    refuse(arguments, flags_of_theory, "is a flag of theory; a file has its own model");
    const std::string& path = arguments.text("file");
    const Results results = read_results(path);
    for (const Table& table : results.tables) {
        if (table.name == "measure") {
            return measured_evidence(
                table,
                {.traces = arguments.given("trace") ? arguments.texts("trace") : std::vector<std::string>{},
                 .scorers = arguments.given("scorer") ? arguments.texts("scorer") : std::vector<std::string>{},
                 .block_sizes = integers_or(arguments, "block-size", ""),
                 .topks = integers_or(arguments, "topk", ""),
                 .keep_first = keep_first_of(arguments, {})},
                path);
        }
    }
    throw FileError(
        fmt::format("{}: holds no table measure; it is of mobalab {}, and mobalab measure writes that table", path,
                    results.subcommand));
}

/// Fills in times, and refuses a budget in them that they cannot answer.
void add_times(Evidence& evidence, const Budget& budget, std::int64_t seq_len, const Arguments& arguments) {
    const KernelTimes own =
        arguments.given("kernel-table") ? KernelTimes::read(arguments.text("kernel-table")) : KernelTimes::shipped();
    add_milliseconds(evidence, own, seq_len);
    const bool none = std::none_of(evidence.candidates.begin(), evidence.candidates.end(),
                                   [](const Candidate& candidate) { return !std::isnan(candidate.milliseconds); });
    if (none && budget.kind == Budget::Kind::milliseconds) {
        throw InputError(fmt::format(
            "budget-ms = {}: {} ({}) holds none of the settings at d {}, N {}, and nothing is extrapolated; nearest "
            "valid: --budget-keys, or a --kernel-table that holds them",
            arguments.text("budget-ms"), own.name(), own.range(), evidence.head_dim, seq_len));
    }
}

struct Advised {
    Evidence evidence;
    Budget budget;
    double dense_below;
    Advice advice;
    std::string warning;  ///< about the length; empty: none

    std::string sentence() const { return recommendation(evidence, advice, budget); }
    std::vector<std::string> notes() const { return advice_notes(evidence, advice, dense_below); }
};

Advised advised(const Arguments& arguments) {
    Advised all{.evidence = {},
                .budget = budget_of(arguments),
                .dense_below = arguments.real("dense-below", 0.0, 1.0),
                .advice = {},
                .warning = {}};
    all.evidence = arguments.given("file") ? evidence_of_file(arguments) : evidence_of_theory(arguments, all.budget);
    const std::int64_t seq_len =
        arguments.given("seq-len") ? arguments.integer("seq-len", 1, most_tokens) : all.evidence.seq_len;
    all.warning = length_warning(all.evidence, seq_len);
    add_times(all.evidence, all.budget, seq_len, arguments);
    all.advice = advise(all.evidence, all.budget, all.dense_below);
    return all;
}

std::vector<Table> tables_of(const Advised& all) {
    std::vector<Table> tables = advice_tables(all.evidence, all.advice, all.dense_below);
    std::map<std::string, Attribute>& said = tables.front().attributes;
    said["recommendation"] = all.sentence();
    said["budget"] = to_string(all.budget);
    said["evidence"] = all.evidence.origin;
    said["notes"] = fmt::format("{}", fmt::join(all.notes(), "\n"));
    if (!all.warning.empty()) {
        said["warning"] = all.warning;
    }
    return tables;
}

void print_frontier(const Advised& all, Terminal& terminal) {
    const Table table = frontier_table(all.evidence, all.advice);
    std::vector<ShownColumn> answers;
    if (all.evidence.measured) {
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
    terminal.out << all.sentence() << "\n\n" << all.evidence.origin << "; the frontier of recall against cost:\n";
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
    const Advised all = advised(arguments);
    const std::vector<Table> tables = tables_of(all);
    if (output) {
        Results results = new_results("advise");
        results.task = task_id("advise\n" + arguments.settings() + "\n" + csv_table(tables.front()));
        results.command = arguments.command_line();
        results.settings = arguments.settings();
        results.device = cpu_name();
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
        "Reads what `mobalab measure` found and says in one sentence which setting to take within a budget: of keys a "
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
        "Without a file the exact probability that independent keys and one needle (--head-dim, --seq-len and an "
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
         {"advise --head-dim 64 --seq-len 8K --profile 0.6,0.3,0.2 --budget-keys 1024",
          "without a trace: independent keys, and a needle with two related tokens"}},
        "file",
        run_advise};
}

}  // namespace mobalab::experiments
