#include "experiments/commands/validate_traces.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <ostream>

#include "analysis/routing_point.h"
#include "experiments/base/values.h"
#include "experiments/cli/progress.h"
#include "experiments/commands/device_choice.h"
#include "experiments/commands/output_flags.h"
#include "experiments/commands/subcommands.h"
#include "experiments/measure/measure_run.h"
#include "experiments/measure/measure_table.h"
#include "experiments/points/shown_columns.h"
#include "experiments/predict/trace_validation.h"
#include "experiments/results/table_text.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;

constexpr std::int64_t most_tokens = std::int64_t{1} << 30U;
constexpr std::size_t worst_shown = 5;
constexpr const char* default_alpha = "0.05";  // a text is few clusters of rows; a smaller one would find little

/// Flags that both modes have, beside those of traces alone.
const std::vector<std::string> shared_flags = {
    "block-size", "topk",  "budget", "skip-impossible", "scorer", "device",        "dtype", "seed",
    "threads",    "alpha", "out",    "force",           "resume", "json-progress", "json",  "csv"};

/// Where none are asked for: half of those of the shortest trace, so that the other half is there to predict from.
std::int64_t rows_of(const Arguments& arguments, const MeasurePlan& plan) {
    if (arguments.given("rows")) return arguments.integer("rows", 0, most_tokens);
    if (arguments.given("statistics")) return 0;
    std::int64_t fewest = most_tokens;
    for (const TracePlan& of_trace : plan.traces) fewest = std::min(fewest, of_trace.trace.info().queries);
    return std::max<std::int64_t>(1, fewest / 2);
}

PredictionRequest request_of(const Arguments& arguments, std::int64_t rows) {
    PredictionRequest request{
        .law = arguments.given("predict") ? parse_prediction_law(arguments.text("predict")) : PredictionLaw::one_pass,
        .rows = rows,
        .threads = worker_threads(arguments)};
    if (arguments.given("statistics")) request.statistics = Trace::open(arguments.text("statistics"));
    return request;
}

struct Validated {
    Table settings;
    Table comparisons;
};

Results results_of(const MeasurePlan& plan, const MeasureSettings& settings, const PredictionRequest& request,
                   const HeadMeter& meter, const Arguments& arguments) {
    Results results = new_results("validate");
    results.task = task_id(fmt::format("validate\n{}\n{}\nstatistics={}", measure_task(plan, settings, meter.device()),
                                       prediction_law_names()[static_cast<std::size_t>(request.law)],
                                       request.statistics ? request.statistics->path() : ""));
    results.command = arguments.command_line();
    results.settings = arguments.settings();
    results.seed = settings.seed;
    results.device = fmt::format("{} ({})", meter.device(), meter.processor());
    return results;
}

Validated validate(const MeasurePlan& plan, const MeasureSettings& settings, const PredictionRequest& request,
                   const TraceLevels& levels, HeadMeter& meter, ResumableOutput* output, Terminal& terminal) {
    ProgressDisplay display(terminal, "validate");
    const std::vector<std::vector<ToldPrediction>> predictions = predict_plan(
        plan, request, [&](double fraction, const std::string& text) { display.update(0.3 * fraction, text); });
    const std::vector<std::vector<MeasuredSetting>> measured =
        run_measurement(plan, settings, meter, output,
                        [&](double fraction, const std::string& text) { display.update(0.3 + 0.7 * fraction, text); });
    Validated validated{.settings = measure_table(plan, measured, settings, meter.device()), .comparisons = {}};
    validated.settings.name = "validate";
    const std::vector<Column> columns = prediction_columns(plan, request, predictions);
    validated.settings.columns.insert(validated.settings.columns.end(), columns.begin(), columns.end());
    validated.comparisons =
        trace_comparisons_table(plan, compare_with_predictions(plan, measured, predictions, request, levels));
    return validated;
}

std::string comparison_text(const Table& comparisons, std::size_t row, const Table& settings) {
    const std::int64_t setting = comparisons.integers("setting")[row];
    std::string where = "all settings";
    if (setting >= 0) {
        const auto at = static_cast<std::size_t>(setting);
        where =
            fmt::format("layer {}, head {}, B {}, k {}", settings.integers("layer")[at], settings.integers("head")[at],
                        settings.integers("block_size")[at], settings.integers("topk")[at]);
    }
    return fmt::format("  {} of {}, {}: measured {:.4f}, predicted {:.4f}, stated error {:.2f}, chance {:.3f}\n",
                       comparisons.texts("kind")[row], comparisons.texts("trace")[row], where,
                       comparisons.reals("measured")[row], comparisons.reals("predicted")[row],
                       comparisons.reals("stated_error")[row], comparisons.reals("chance")[row]);
}

/// Rows that disagree, those farthest beyond what they may be off first.
std::vector<std::size_t> disagreements(const Table& comparisons) {
    std::vector<std::size_t> rows;
    for (std::size_t i = 0; i < comparisons.rows(); ++i) {
        if (comparisons.integers("agrees")[i] == 0) rows.push_back(i);
    }
    const auto beyond = [&](std::size_t i) {
        return std::abs(comparisons.reals("measured")[i] - comparisons.reals("predicted")[i]) -
               comparisons.reals("stated_error")[i] - comparisons.reals("chance")[i];
    };
    std::stable_sort(rows.begin(), rows.end(), [&](std::size_t a, std::size_t b) { return beyond(a) > beyond(b); });
    return rows;
}

std::string means_text(const Table& comparisons) {
    std::string text;
    for (std::size_t i = 0; i < comparisons.rows(); ++i) {
        if (comparisons.integers("setting")[i] >= 0) continue;
        text +=
            fmt::format("{} of {}: {:.4f} (stated {:.2f}; {:.2f} would be found with probability 0.9)\n",
                        comparisons.texts("kind")[i], comparisons.texts("trace")[i], comparisons.reals("measured")[i],
                        comparisons.reals("stated_error")[i], comparisons.reals("detectable_error")[i]);
    }
    return text;
}

int report(const Table& settings, const Table& comparisons, const Arguments& arguments, Terminal& terminal) {
    if (comparisons.rows() == 0) {
        throw InputError(
            "predict: the law says nothing of any setting measured (each keeps every block, or no row has "
            "a needle); nearest valid choice: smaller blocks, fewer of them");
    }
    const std::vector<std::size_t> wrong = disagreements(comparisons);
    std::string verdict = means_text(comparisons);
    verdict += fmt::format("{}: {} comparisons, {} beyond stated error and chance, family-wise error {}\n",
                           wrong.empty() ? "the kernel finds what is predicted" : "DISAGREEMENT", comparisons.rows(),
                           wrong.size(), arguments.text("alpha"));
    for (std::size_t i = 0; i < std::min(worst_shown, wrong.size()); ++i) {
        verdict += comparison_text(comparisons, wrong[i], settings);
    }
    if (print_for_program(settings, arguments, terminal)) {
        terminal.err << verdict;
    } else {
        terminal.out << human_table(settings,
                                    {{"trace", "trace"},
                                     {"layer", "layer"},
                                     {"head", "head"},
                                     {"block_size", "B"},
                                     {"topk", "k"},
                                     {"keep_first", "keep_first"},
                                     {"rows", "rows"},
                                     {"prediction", "prediction"}},
                                    {{"needle_hit", "needle"},
                                     {"predicted_needle_hit", "predicted_needle"},
                                     {"mass_recall", "recall"},
                                     {"predicted_mass_recall", "predicted_recall"}})
                     << verdict;
    }
    return wrong.empty() ? exit_ok : exit_disagree;
}

}  // namespace

std::vector<Flag> trace_validation_flags() {
    // Without defaults, so that the settings of a run on planted needles name none of them.
    return {
        {"traces", "PATH", "",
         "traces of a model instead of planted needles; may be given without the flag's name, and more than one"},
        {"layer", "LIST", "", "traces: layers of the model; without it all in the trace"},
        {"head", "LIST", "", "traces: query heads; without it all"},
        {"rows", "N", "",
         "traces: queries of a head that are measured, at least; 0: all. Without it half, with --statistics all"},
        {"keep-first", "NAME", "", "traces: block 0 is always kept and counted in k: off, on, or both; without it off"},
        {"predict", "LAW", "", "traces: the law; one-pass, standardised, empirical; without it one-pass"},
        {"statistics", "PATH", "",
         "traces: trace of the same model to predict from; without it rows of the trace that are not measured"}};
}

void check_flags_of_mode(const Arguments& arguments) {
    const bool traces = arguments.given("traces");
    for (const Flag& flag : validate_command().flags) {
        if (flag.name == "traces" || !arguments.given(flag.name)) continue;
        const std::vector<Flag> of_traces = trace_validation_flags();
        const bool alone =
            std::any_of(of_traces.begin(), of_traces.end(), [&](const Flag& other) { return other.name == flag.name; });
        const bool shared = std::find(shared_flags.begin(), shared_flags.end(), flag.name) != shared_flags.end();
        if (traces && !alone && !shared) {
            throw InputError(
                fmt::format("{} = {}: is of planted needles, and traces are given; nearest valid: leave "
                            "out --{} or the traces",
                            flag.name, arguments.text(flag.name), flag.name));
        }
        if (!traces && alone) {
            throw InputError(
                fmt::format("{} = {}: is of traces, and none is given; nearest valid: mobalab validate "
                            "trace.safetensors --{} {}",
                            flag.name, arguments.text(flag.name), flag.name, arguments.text(flag.name)));
        }
    }
    if (traces && arguments.text("scorer") != "mean") {
        throw InputError(
            fmt::format("scorer = {}: predictions are of mean alone; nearest valid: mean", arguments.text("scorer")));
    }
}

MeasurePlan trace_validation_plan(const Arguments& arguments) {
    MeasureRequest request;
    request.block_sizes = arguments.integers("block-size", 1, most_tokens);
    if (arguments.given("budget")) request.budgets = arguments.integers("budget", 1, most_tokens);
    if (arguments.given("topk") || request.budgets.empty()) request.topks = arguments.integers("topk", 1, most_tokens);
    request.scorers = {"mean"};
    const std::string keep_first =
        arguments.given("keep-first") ? arguments.choice("keep-first", {"off", "on", "both"}) : "off";
    request.keep_first = keep_first == "both" ? std::vector<bool>{false, true} : std::vector<bool>{keep_first == "on"};
    if (arguments.choice("dtype", {"fp32", "bf16", "fp16", "auto"}) != "auto") request.dtype = dtype_of(arguments);
    if (arguments.given("layer")) request.layers = arguments.integers("layer", 0);
    if (arguments.given("head")) request.heads = arguments.integers("head", 0);
    request.skip_impossible = arguments.on("skip-impossible");
    return plan_measurement(arguments.lines("traces"), request);
}

int run_trace_validation(const Arguments& given, const MeasurePlan& plan, HeadMeter& meter, Terminal& terminal) {
    const Arguments arguments = given.given("alpha") ? given : given.with("alpha", default_alpha);
    const double alpha = arguments.real("alpha", 1e-9, 0.5);
    const TraceLevels levels = trace_levels(plan, alpha);
    const MeasureSettings settings{.rows = rows_of(arguments, plan),
                                   .seed = static_cast<std::uint64_t>(arguments.integer("seed", 0)),
                                   .confidence = 1.0 - levels.mean};
    const PredictionRequest request = request_of(arguments, settings.rows);
    std::optional<ResumableOutput> output;
    const ResumableOutput::Mode mode = output_mode(arguments);
    if (arguments.given("out")) {
        output.emplace(arguments.text("out"), mode, results_of(plan, settings, request, meter, arguments));
    }
    if (output && output->finished()) {
        terminal.err << "mobalab validate: " << arguments.text("out") << " is complete; nothing left to do\n";
        return report(output->finished()->table("validate"), output->finished()->table("validate_comparisons"),
                      arguments, terminal);
    }
    const Validated validated = validate(plan, settings, request, levels, meter, output ? &*output : nullptr, terminal);
    if (output) output->commit({validated.settings, validated.comparisons});
    return report(validated.settings, validated.comparisons, arguments, terminal);
}

}  // namespace mobalab::experiments
