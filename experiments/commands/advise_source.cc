#include "experiments/commands/advise_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "analysis/limits.h"
#include "analysis/routing_point.h"
#include "experiments/advise/measured_evidence.h"
#include "experiments/advise/theory_evidence.h"
#include "experiments/base/build_info.h"
#include "experiments/base/values.h"
#include "experiments/cli/progress.h"
#include "experiments/commands/meter_choice.h"
#include "experiments/measure/measure_run.h"
#include "experiments/measure/measure_table.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;
using Names = std::vector<std::string>;

constexpr const char* default_blocks = "16:512:x2";
constexpr const char* default_budgets = "512:4K:x2";
constexpr const char* default_trace_scorers = "mean,quest,max,window,oracle";

const Names flags_of_theory = {"head-dim", "model", "profile", "mu-signal", "cluster-size", "mu-cluster"};
const Names flags_of_traces = {"layer", "head", "rows", "device", "threads"};
const Names flags_of_results = {"trace"};

void refuse(const Arguments& arguments, const Names& flags, const std::string& rule) {
    for (const std::string& flag : flags) {
        if (arguments.given(flag)) {
            throw InputError(fmt::format("{} = {}: {}", flag, arguments.text(flag), rule));
        }
    }
}

std::vector<std::int64_t> integers_if_given(const Arguments& arguments, const std::string& flag) {
    return arguments.given(flag) ? arguments.integers(flag, 1, most_advised_tokens) : std::vector<std::int64_t>{};
}

std::vector<bool> keep_first_of(const Arguments& arguments, const std::vector<bool>& otherwise) {
    if (!arguments.given("keep-first")) {
        return otherwise;
    }
    const std::string choice = arguments.choice("keep-first", {"off", "on", "both"});
    return choice == "both" ? std::vector<bool>{false, true} : std::vector<bool>{choice == "on"};
}

Names scorers_of(const Arguments& arguments) {
    const Names names = arguments.texts("scorer");
    for (auto name = names.begin(); name != names.end(); ++name) {
        if (std::find(names.begin(), name, *name) != name) {
            throw InputError(fmt::format("scorer = {}: {} appears twice; a list names each value once",
                                         arguments.text("scorer"), *name));
        }
    }
    return names;
}

/// --block-size, --topk, --scorer and --keep-first, or what is tried where they are not given.
SettingGrid grid_of(const Arguments& arguments, const Budget& budget, const std::string& scorers,
                    const std::vector<bool>& keep_first) {
    SettingGrid grid{.block_sizes = integers_if_given(arguments, "block-size"),
                     .topks = integers_if_given(arguments, "topk"),
                     .budgets = {},
                     .scorers = arguments.given("scorer") ? scorers_of(arguments) : parse_words("scorer", scorers),
                     .keep_first = keep_first_of(arguments, keep_first)};
    if (grid.block_sizes.empty()) {
        grid.block_sizes = parse_integers("block-size", default_blocks, {1, most_advised_tokens});
    }
    if (grid.topks.empty()) {
        grid.budgets = parse_integers("topk", default_budgets, {1, most_advised_tokens});
        for (const std::int64_t size : grid.block_sizes) {  // the most whole blocks that the budget holds
            const std::int64_t most =
                budget.kind == Budget::Kind::keys ? static_cast<std::int64_t>(budget.amount) / size * size : 0;
            if (most > 0 && std::count(grid.budgets.begin(), grid.budgets.end(), most) == 0) {
                grid.budgets.push_back(most);
            }
        }
    }
    return grid;
}

std::vector<double> profile_of(const Arguments& arguments) {
    if (arguments.given("profile")) {
        refuse(arguments, {"mu-signal", "cluster-size", "mu-cluster"}, "--profile says that too; give one of the two");
        std::vector<double> profile;  // each item a list of its own: related tokens may be equally related
        for (const std::string& item : arguments.texts("profile")) {
            const std::vector<double> values = parse_reals("profile", item, {-1.0, 1.0});
            profile.insert(profile.end(), values.begin(), values.end());
        }
        return profile;
    }
    std::vector<double> profile(static_cast<std::size_t>(arguments.integer("cluster-size", 1, 65536)),
                                arguments.real("mu-cluster", -1.0, 1.0));
    profile.front() = arguments.real("mu-signal", 0.0, 1.0);
    return profile;
}

AdviseSource from_theory(const Arguments& arguments, const Budget& budget) {
    refuse(arguments, flags_of_results, "is about measurements, and no file is named");
    refuse(arguments, flags_of_traces, "is about traces, and none is named");
    for (const char* flag : {"head-dim", "seq-len"}) {
        if (!arguments.given(flag)) {
            throw InputError(fmt::format(
                "{}: name traces or a results file of `mobalab measure`, or give --head-dim, --seq-len and an affinity "
                "profile",
                flag));
        }
    }
    const Assumption assumption{.model = analysis::parse_model(arguments.text("model")),
                                .head_dim = arguments.integer("head-dim", analysis::least_head_dim, no_limit),
                                .seq_len = arguments.integer("seq-len", 1, most_advised_tokens),
                                .profile = profile_of(arguments)};
    return {.evidence = theory_evidence(assumption, grid_of(arguments, budget, "mean", {false})), .device = cpu_name()};
}

AdviseSource from_results(const Arguments& arguments, const std::string& path) {
    refuse(arguments, flags_of_theory, "is a flag of theory; measurements have their own keys");
    refuse(arguments, flags_of_traces, fmt::format("is about traces, and {} is a results file", path));
    const Results results = read_results(path);
    for (const Table& table : results.tables) {
        if (table.name == "measure") {
            const MeasuredRows wanted{.traces = arguments.given("trace") ? arguments.texts("trace") : Names{},
                                      .scorers = arguments.given("scorer") ? scorers_of(arguments) : Names{},
                                      .block_sizes = integers_if_given(arguments, "block-size"),
                                      .topks = integers_if_given(arguments, "topk"),
                                      .keep_first = keep_first_of(arguments, {})};
            return {.evidence = measured_evidence(table, wanted, path), .device = results.device};
        }
    }
    throw FileError(
        fmt::format("{}: holds no table measure; it is of mobalab {}, and mobalab measure writes that table", path,
                    results.subcommand));
}

std::vector<std::int64_t> numbers_if_given(const Arguments& arguments, const std::string& flag) {
    return arguments.given(flag) ? arguments.integers(flag, 0) : std::vector<std::int64_t>{};
}

AdviseSource from_traces(const Arguments& arguments, const Budget& budget, const Names& paths, Terminal& terminal) {
    refuse(arguments, flags_of_theory, "is a flag of theory; traces have their own keys");
    refuse(arguments, flags_of_results, "is about a results file; name the traces wanted alone");
    const SettingGrid grid = grid_of(arguments, budget, default_trace_scorers, {false, true});
    const MeasurePlan plan = plan_measurement(paths, {.block_sizes = grid.block_sizes,
                                                      .topks = grid.topks,
                                                      .budgets = grid.budgets,
                                                      .scorers = grid.scorers,
                                                      .keep_first = grid.keep_first,
                                                      .dtype = {},
                                                      .centroids = kernels::Centroids::input_dtype,
                                                      .layers = numbers_if_given(arguments, "layer"),
                                                      .heads = numbers_if_given(arguments, "head"),
                                                      .skip_impossible = true});
    const MeasureSettings settings{.rows = arguments.integer("rows", 0, most_advised_tokens)};
    const std::unique_ptr<HeadMeter> meter = chosen_meter(arguments, plan, terminal);
    std::vector<std::vector<MeasuredSetting>> measured;
    {
        ProgressDisplay display(terminal, "advise");
        measured = run_measurement(plan, settings, *meter, nullptr,
                                   [&](double fraction, const std::string& text) { display.update(fraction, text); });
    }
    AdviseSource source{.evidence = {},
                        .measured = measure_table(plan, measured, settings, meter->device()),
                        .device = fmt::format("{} ({})", meter->device(), meter->processor())};
    source.evidence = measured_evidence(*source.measured, {}, "the measurement");
    const bool asked = arguments.given("block-size") || arguments.given("topk");
    if (plan.left_out > 0 && asked) {  // of the default grid nobody asked for the impossible ones
        source.evidence.notes.push_back(
            fmt::format("left out {} settings that cannot be, the first: {}", plan.left_out, plan.first_left_out));
    }
    return source;
}

}  // namespace

std::vector<Flag> advise_source_flags() {
    return {
        {"file", "PATH", "",
         "results file of `mobalab measure`, or traces; may be given without the flag's name, traces more than one"},
        {"block-size", "LIST", "",
         fmt::format("block sizes to choose among; without it all of the results file, or {}", default_blocks)},
        {"topk", "LIST", "",
         fmt::format("k to choose among; without it all of the results file, or {} keys and the budget's over B",
                     default_budgets)},
        {"scorer", "LIST", "",
         fmt::format("scorers to choose among; without it all of the results file, {} of traces, mean of theory",
                     default_trace_scorers)},
        {"keep-first", "NAME", "", "block 0 always kept: off, on, both; without it both, of theory off"},
        {"trace", "LIST", "", "of a results file: only these of its traces"},
        {"layer", "LIST", "", "of traces: layers of the model; without it all"},
        {"head", "LIST", "", "of traces: query heads; without it all"},
        {"rows", "N", "0", "of traces: queries of a head, at least, in stretches along the trace; 0: all"},
        {"device", "NAME", "cpu", "of traces: kernel to run: cpu, cuda, or auto"},
        {"threads", "N", "0", "of traces: worker threads, 0 for all; results do not depend on it"},
        {"head-dim", "D", "", "of theory: width of a head"},
        {"model", "NAME", "sphere", "of theory: sphere (unit keys), gaussian or gaussian-fixed"},
        {"profile", "LIST", "", "of theory: affinities q.k of the needle and of the tokens behind it in its block"},
        {"mu-signal", "MU", "0.8", "of theory, in place of a profile: affinity of the needle"},
        {"cluster-size", "M", "1", "of theory, likewise: related tokens, the needle included"},
        {"mu-cluster", "MU", "0", "of theory, likewise: affinity of the other related tokens"}};
}

AdviseSource advise_source(const Arguments& arguments, const Budget& budget, Terminal& terminal) {
    const Names paths = arguments.lines("file");
    if (paths.empty()) {
        return from_theory(arguments, budget);
    }
    for (const std::string& path : paths) {
        if (is_results_file(path)) {
            if (paths.size() > 1) {
                throw InputError(
                    fmt::format("file = {}: is a results file, which is read alone; measure all traces "
                                "into one with mobalab measure A B --out",
                                path));
            }
            return from_results(arguments, path);
        }
    }
    return from_traces(arguments, budget, paths, terminal);
}

}  // namespace mobalab::experiments
