#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <ostream>
#include <utility>

#include "analysis/routing_point.h"
#include "experiments/cli/progress.h"
#include "experiments/commands/meter_choice.h"
#include "experiments/commands/output_flags.h"
#include "experiments/commands/probe_flags.h"
#include "experiments/commands/subcommands.h"
#include "experiments/measure/measure_run.h"
#include "experiments/measure/measure_table.h"
#include "experiments/points/shown_columns.h"
#include "experiments/predict/head_prediction.h"
#include "experiments/results/table_text.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;

constexpr std::int64_t most_tokens = std::int64_t{1} << 30U;

std::vector<Flag> measure_flags() {
    return std::vector<Flag>{
               {"traces", "PATH", "", "traces of a model; may be given without the flag's name, and more than one"},
               {"block-size", "LIST", "64", "B, keys in a block"},
               {"topk", "LIST", "", "k, blocks a query attends to, its own included; 8 where there is no --budget"},
               {"budget", "LIST", "", "keys a query attends to: also k = budget / block-size, which must be whole"},
               {"scorer", "LIST", "mean",
                fmt::format("who chooses blocks: {} (R sub-blocks of a block, the best of which counts)",
                            router_names())},
               {"keep-first", "NAME", "off", "block 0 is always kept and counted in k: off, on, or both"},
               {"layer", "LIST", "", "layers of the model; without it all in the trace"},
               {"head", "LIST", "", "query heads; without it all"},
               {"rows", "N", "0", "queries of a head, at least, in stretches of 128 along the trace; 0: all"},
               {"device", "NAME", "cpu", "kernel to run: cpu, cuda, or auto (cuda where it can run all that is asked)"},
               {"dtype", "NAME", "auto", "type of the tensors: fp32, bf16, fp16; auto: the trace's own"},
               {"centroids", "NAME", "dtype", "summaries of keys: rounded to the dtype, as MoBA does, or kept in fp32"},
               {"predict", "LAW", "",
                "also what a law says, from statistics of the head's scores: one-pass, standardised, empirical"},
               {"statistics", "PATH", "",
                "trace of the same model to predict from; without it rows of the trace itself"},
               {"confidence", "P", "0.95", "confidence of the intervals"},
               {"skip-impossible", "", "", "leave out settings that cannot be, instead of an error"}} +
           engine_flags("1") + resumable_output_flags() + progress_flag() + table_flags();
}

MeasureRequest request_of(const Arguments& arguments) {
    MeasureRequest request;
    request.block_sizes = arguments.integers("block-size", 1, most_tokens);
    if (arguments.given("budget")) {
        request.budgets = arguments.integers("budget", 1, most_tokens);
    }
    if (arguments.given("topk") || !arguments.given("budget")) {
        request.topks =
            arguments.given("topk") ? arguments.integers("topk", 1, most_tokens) : std::vector<std::int64_t>{8};
    }
    request.scorers = arguments.texts("scorer");
    for (auto scorer = request.scorers.begin(); scorer != request.scorers.end(); ++scorer) {
        if (std::find(request.scorers.begin(), scorer, *scorer) != scorer) {
            throw InputError(fmt::format("scorer = {}: {} appears twice; a list names each value once",
                                         arguments.text("scorer"), *scorer));
        }
    }
    const std::string keep_first = arguments.choice("keep-first", {"off", "on", "both"});
    request.keep_first = keep_first == "both" ? std::vector<bool>{false, true} : std::vector<bool>{keep_first == "on"};
    const std::string dtype = arguments.choice("dtype", {"fp32", "bf16", "fp16", "auto"});
    if (dtype != "auto") {
        request.dtype = dtype_of(arguments);
    }
    request.centroids = arguments.choice("centroids", {"dtype", "fp32"}) == "fp32" ? kernels::Centroids::fp32
                                                                                   : kernels::Centroids::input_dtype;
    if (arguments.given("layer")) {
        request.layers = arguments.integers("layer", 0);
    }
    if (arguments.given("head")) {
        request.heads = arguments.integers("head", 0);
    }
    request.skip_impossible = arguments.on("skip-impossible");
    return request;
}

MeasureSettings settings_of(const Arguments& arguments) {
    return {.rows = arguments.integer("rows", 0, most_tokens),
            .seed = static_cast<std::uint64_t>(arguments.integer("seed", 0)),
            .confidence = interval_confidence(arguments)};
}

/// --predict; empty: nothing is predicted.
std::optional<PredictionRequest> prediction_of(const Arguments& arguments, const MeasureSettings& settings) {
    if (!arguments.given("predict")) {
        if (arguments.given("statistics")) {
            throw InputError("statistics: is of predictions; nearest valid: --predict one-pass beside it");
        }
        return {};
    }
    PredictionRequest request{.law = parse_prediction_law(arguments.text("predict")),
                              .rows = settings.rows,
                              .threads = worker_threads(arguments)};
    if (arguments.given("statistics")) {
        request.statistics = Trace::open(arguments.text("statistics"));
    }
    return request;
}

Results results_of(const MeasurePlan& plan, const MeasureSettings& settings, const HeadMeter& meter,
                   const Arguments& arguments) {
    Results results = new_results("measure");
    results.task = measure_task(plan, settings, meter.device());
    if (arguments.given("predict")) {
        results.task = task_id(fmt::format("{}\npredict={}\nstatistics={}", results.task, arguments.text("predict"),
                                           arguments.text("statistics")));
    }
    results.command = arguments.command_line();
    results.settings = arguments.settings();
    results.seed = settings.seed;
    results.device = fmt::format("{} ({})", meter.device(), meter.processor());
    return results;
}

/// Of a table with or without predictions.
std::vector<ShownColumn> shown_answers(const Table& table) {
    std::vector<ShownColumn> answers = {{"mass_recall", "recall"},
                                        {"mass_recall_low", "low"},
                                        {"mass_recall_high", "high"},
                                        {"lost_mass", "lost"},
                                        {"output_error", "output_error"},
                                        {"needle_hit", "needle"},
                                        {"predicted_mass_recall", "predicted_recall"},
                                        {"predicted_needle_hit", "predicted_needle"},
                                        {"distant_hit", "distant"},
                                        {"fact_hit", "fact"},
                                        {"distance_r2", "r2"}};
    std::erase_if(answers, [&](const ShownColumn& answer) { return !table.has(answer.name); });
    return answers;
}

void print(const Table& table, const Arguments& arguments, Terminal& terminal) {
    if (print_for_program(table, arguments, terminal)) {
        return;
    }
    terminal.out << human_table(table,
                                {{"device", "device"},
                                 {"trace", "trace"},
                                 {"dtype", "dtype"},
                                 {"seq_len", "N"},
                                 {"head_dim", "d"},
                                 {"layer", "layer"},
                                 {"head", "head"},
                                 {"block_size", "B"},
                                 {"topk", "k"},
                                 {"scorer", "scorer"},
                                 {"keep_first", "keep_first"},
                                 {"rows", "rows"}},
                                shown_answers(table));
}

int run_measure(const Arguments& arguments, Terminal& terminal) {
    const std::vector<std::string> paths = arguments.lines("traces");
    if (paths.empty()) {
        throw InputError("traces: name at least one trace, like mobalab measure trace.safetensors");
    }
    const MeasureRequest request = request_of(arguments);
    const MeasureSettings settings = settings_of(arguments);
    const std::optional<PredictionRequest> prediction = prediction_of(arguments, settings);
    const ResumableOutput::Mode mode = output_mode(arguments);
    const MeasurePlan plan = plan_measurement(paths, request);
    const std::unique_ptr<HeadMeter> meter = chosen_meter(arguments, plan, terminal);
    std::optional<ResumableOutput> output;
    if (arguments.given("out")) {
        output.emplace(arguments.text("out"), mode, results_of(plan, settings, *meter, arguments));
    }
    if (output && output->finished()) {
        terminal.err << "mobalab measure: " << arguments.text("out") << " is complete; nothing left to do\n";
        print(output->finished()->table("measure"), arguments, terminal);
        return exit_ok;
    }
    if (plan.left_out > 0) {
        terminal.err << fmt::format("mobalab measure: left out {} settings that cannot be, the first: {}\n",
                                    plan.left_out, plan.first_left_out);
    }
    std::vector<std::vector<MeasuredSetting>> measured;
    {
        ProgressDisplay display(terminal, "measure");
        measured = run_measurement(plan, settings, *meter, output ? &*output : nullptr,
                                   [&](double fraction, const std::string& text) { display.update(fraction, text); });
    }
    Table table = measure_table(plan, measured, settings, meter->device());
    if (prediction) {
        ProgressDisplay display(terminal, "measure");
        const auto predictions = predict_plan(
            plan, *prediction, [&](double fraction, const std::string& text) { display.update(fraction, text); });
        const std::vector<Column> columns = prediction_columns(plan, *prediction, predictions);
        table.columns.insert(table.columns.end(), columns.begin(), columns.end());
    }
    if (output) {
        std::vector<Table> tables = {table};
        tables.push_back(measure_distance_table(table, plan, measured));
        output->commit(std::move(tables));
    }
    print(table, arguments, terminal);
    return exit_ok;
}

}  // namespace

Subcommand measure_command() {
    return {
        "measure",
        "what block routing finds in a model's own queries and keys",
        "Reads traces (queries, keys and values that a model computed on a text; `mobalab_kernels.record` writes "
        "them), "
        "routes every query through the real kernel and holds the whole softmax beside it: the share of its mass in "
        "the "
        "routed blocks (recall), what is lost, the error of the output, whether the block of the strongest past key "
        "(needle), of the strongest one more than 1024 tokens back (distant) and of planted facts (fact) is routed, "
        "and "
        "the statistics of scores and keys from which theory predicts that. --csv, --json and --out have every column; "
        "the results file says how each is defined.\n"
        "\n"
        "A row for each layer, head, block size, k and scorer. Scorers beside the kernels': window routes the latest "
        "blocks, cum2 adds the variance of q.k in the block to its mean, oracle takes the blocks of the largest mass, "
        "which no other router of as many blocks exceeds. Shares of scorer random are expectations over its draws; the "
        "output's error and own_share, window_share, sink_share are those of one draw by --seed. The results file also "
        "has the table measure_distance, how far back routed blocks and needles lie (not of random). Intervals are "
        "clustered by query blocks of max(B, 128) positions, as neighbouring rows resemble each other.",
        measure_flags(),
        {{"measure layer05.safetensors", "the mean at B 64, k 8, every layer and head of the trace"},
         {"measure layer05.safetensors --block-size 16:512:x2 --budget 1024 --scorer mean,quest,oracle",
          "what the scorers find in 1024 keys, by block size"},
         {"measure book.safetensors code.safetensors --keep-first both --layer 5,18 --out measure.h5",
          "two texts, with and without the first block always kept, to a results file"},
         {"measure book.safetensors --predict one-pass --rows 1024",
          "beside it what token statistics of the other rows say"},
         {"measure code.safetensors --predict one-pass --statistics book.safetensors", "and those of another text"},
         {"measure long.safetensors --rows 2048 --csv", "every column, from 2048 queries of each head"}},
        "traces",
        run_measure,
        false,
        true};
}

}  // namespace mobalab::experiments
