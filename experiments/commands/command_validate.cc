#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <ostream>
#include <utility>

#include "analysis/binomial_interval.h"
#include "experiments/base/number_bytes.h"
#include "experiments/base/parallel_for.h"
#include "experiments/base/this_rank.h"
#include "experiments/base/values.h"
#include "experiments/cli/progress.h"
#include "experiments/commands/comparisons.h"
#include "experiments/commands/meter_choice.h"
#include "experiments/commands/output_flags.h"
#include "experiments/commands/probe_commands.h"
#include "experiments/commands/probe_flags.h"
#include "experiments/commands/rounding_report.h"
#include "experiments/commands/subcommands.h"
#include "experiments/commands/validate_report.h"
#include "experiments/commands/validate_traces.h"
#include "experiments/points/point_grid.h"
#include "experiments/points/rounding_columns.h"
#include "experiments/probe/rounding_probe.h"
#include "experiments/ranks/work_dealer.h"
#include "experiments/results/column_builder.h"

namespace mobalab::experiments {
namespace {

using analysis::Model;
using analysis::RoutingPoint;

constexpr double sphere_core_seconds = 0.1;
constexpr double sphere_core_seconds_on_cuda = 2.0;  // some 7 ms of an H100; 100 trials of 512K keys would say little
constexpr double text_core_seconds = 2.0;            // a trial draws a whole text, in milliseconds
constexpr double gaussian_core_seconds = 0.02;       // their theory is one formula: a look is enough

// Units of the journal: probes from 0, simulations from these on.
constexpr std::int64_t first_own_unit = std::int64_t{1} << 40U;
constexpr std::int64_t first_gaussian_unit = std::int64_t{2} << 40U;
constexpr std::int64_t first_gaussian_fixed_unit = std::int64_t{3} << 40U;

struct Settings {
    ProbeSettings probe;
    std::uint64_t trials;
    double confidence;
    double alpha;
    std::optional<double> shared_mean;  ///< --shared-mean: rounding of centroids is looked at too
};

std::optional<double> shared_mean_of(const Arguments& arguments) {
    const std::vector<double> means = shared_means(arguments);
    if (means.size() > 1) {
        throw analysis::InputError(
            fmt::format("shared-mean = {}: must be one number for validate; nearest valid choice: {}",
                        arguments.text("shared-mean"), shortest(means.front())));
    }
    return means.empty() ? std::nullopt : std::optional(means.front());
}

Settings settings_of(const Arguments& arguments) {
    return {.probe = probe_settings(arguments),
            .trials = static_cast<std::uint64_t>(arguments.integer("trials", 0, std::int64_t{1} << 53U)),
            .confidence = interval_confidence(arguments),
            .alpha = arguments.real("alpha", 1e-300, 0.5),
            .shared_mean = shared_mean_of(arguments)};
}

std::vector<RoutingPoint> with_model(std::vector<RoutingPoint> points, Model model) {
    for (RoutingPoint& point : points) {
        point.model = model;
    }
    return points;
}

// Runs everything that takes long, with one progress line over all of it.
class Gathering {
public:
    Gathering(const std::vector<RoutingPoint>& points, const ProbePlan& plan, const Settings& settings,
              const KernelUnderTest& kernel, ResumableOutput* output, Terminal& terminal)
        : points_(points),
          plan_(plan),
          settings_(settings),
          kernel_(kernel),
          journal_(output),
          display_(terminal, "validate") {}

    ValidationEvidence gather() {
        ValidationEvidence evidence{.points = points_, .plan = plan_};
        check_rules(evidence);
        begin(0.6);
        const std::vector<JobCounts> counts = run_probes(
            plan_.jobs, kernel_, journal_, [&](double fraction, const std::string& text) { show(fraction, text); });
        count_illegal_rows(counts, evidence);
        begin(0.2);
        evidence.own = simulate_own();
        begin(0.05);
        evidence.gaussian = simulate(with_model(points_, Model::gaussian), gaussian_core_seconds, first_gaussian_unit);
        begin(0.05);
        evidence.gaussian_fixed =
            simulate(with_model(points_, Model::gaussian_fixed), gaussian_core_seconds, first_gaussian_fixed_unit);
        begin(0.1);
        show(0.0, "theory at every number of candidates");
        evidence.kernel = assess_kernel(points_, plan_, counts, kernel_.parallel_key_sets());
        return evidence;
    }

private:
    void check_rules(ValidationEvidence& evidence) {
        evidence.tie_rule.resize(plan_.jobs.size());
        evidence.candidate_rule.resize(plan_.jobs.size());
        WorkDealer& dealer = work_dealer();
        if (!dealer.begin(kernel_.parallel_key_sets(), kernel_.device(),
                          [this](const std::string& request) { return bytes_of(check_rules(std::stoul(request))); })) {
            return;
        }
        parallel_for(plan_.jobs.size(), kernel_.parallel_key_sets() + dealer.helpers(), [&](std::size_t j) {
            const auto reply = dealer.ask(std::to_string(j));
            const std::vector<std::int64_t> checks = reply ? numbers_of(*reply) : check_rules(j);
            evidence.tie_rule[j] = {.rows = checks.at(0), .violations = checks.at(1)};
            evidence.candidate_rule[j] = {.rows = checks.at(2), .violations = checks.at(3)};
        });
    }

    // Rows and violations of the tie rule, then of the rule of candidates.
    std::vector<std::int64_t> check_rules(std::size_t j) const {
        const ProbeJob& job = plan_.jobs[j];
        if (!follows_scores(job.shape.scorer)) {
            return {0, 0, 0, 0};  // only the probes' own selections say whether it keeps to the candidates
        }
        const std::int64_t topk = std::max<std::int64_t>(2, job.largest_topk());
        const RuleCheck ties = check_tie_rule(job.shape, topk, kernel_);
        const RuleCheck candidates = check_candidate_rule(job.shape, topk, kernel_);
        return {ties.rows, ties.violations, candidates.rows, candidates.violations};
    }

    // The probes' own selections must keep to the rule of candidates as well.
    void count_illegal_rows(const std::vector<JobCounts>& counts, ValidationEvidence& evidence) const {
        for (std::size_t j = 0; j < counts.size(); ++j) {
            RuleCheck& check = evidence.candidate_rule[j];
            for (const KeySetCounts& key_set : counts[j]) {
                check.rows += plan_.jobs[j].budget.probes * std::ssize(plan_.jobs[j].kinds);
                check.violations += key_set.illegal_rows;
            }
        }
    }

    std::vector<SimulatedMisses> simulate_own() {
        return kernel_.device() == "cuda"
                   ? simulate(points_, sphere_core_seconds_on_cuda, first_own_unit, sim::Device::cuda)
                   : simulate(points_, sphere_core_seconds, first_own_unit);
    }

    std::vector<SimulatedMisses> simulate(const std::vector<RoutingPoint>& points, double core_seconds,
                                          std::int64_t first_unit, sim::Device device = sim::Device::cpu) {
        const SimulationSettings settings{.trials = settings_.trials,
                                          .core_seconds = core_seconds,
                                          .text_core_seconds = text_core_seconds,
                                          .seed = settings_.probe.seed,
                                          .threads = settings_.probe.threads,
                                          .device = device};
        return simulate_points(points, settings, journal_, first_unit,
                               [&](double fraction, const std::string& text) { show(fraction, text); });
    }

    void begin(double share) {
        done_ += share_;
        share_ = share;
    }
    void show(double fraction, const std::string& text) { display_.update(done_ + share_ * fraction, text); }

    const std::vector<RoutingPoint>& points_;
    const ProbePlan& plan_;
    const Settings& settings_;
    const KernelUnderTest& kernel_;
    UnitJournal journal_;
    ProgressDisplay display_;
    double done_ = 0.0;
    double share_ = 0.0;
};

Column gaussian_column(const std::vector<RoutingPoint>& points, Model model, std::string name, std::string long_name) {
    return make_column(with_model(points, model), std::move(name), std::move(long_name), [](const RoutingPoint& point) {
        return can_be_simulated(point) ? analysis::exact_hit_probability(point).miss() : std::nan("");
    });
}

std::vector<Column> simulation_columns(const std::vector<SimulatedMisses>& simulated, double confidence, int threads) {
    std::vector<analysis::Interval> intervals(simulated.size());
    parallel_for(simulated.size(), thread_count(threads), [&](std::size_t i) {
        intervals[i] = analysis::clopper_pearson(static_cast<double>(simulated[i].misses),
                                                 static_cast<double>(simulated[i].trials), 1.0 - confidence);
    });
    const std::string definition =
        fmt::format("Clopper-Pearson interval of sim_misses of sim_trials, confidence {}", shortest(confidence));
    return {make_column(simulated, "sim_trials", "simulated trials of the point's model",
                        [](const SimulatedMisses& row) { return static_cast<std::int64_t>(row.trials); }),
            make_column(simulated, "sim_misses", "trials whose signal block was not routed",
                        [](const SimulatedMisses& row) { return static_cast<std::int64_t>(row.misses); }),
            make_column(
                intervals, "sim_miss", "simulated miss probability",
                [](const analysis::Interval& row) { return row.value; }, "sim_misses / sim_trials"),
            make_column(
                intervals, "sim_miss_low", "lower end of the interval of sim_miss",
                [](const analysis::Interval& row) { return row.low; }, definition),
            make_column(
                intervals, "sim_miss_high", "upper end of the interval of sim_miss",
                [](const analysis::Interval& row) { return row.high; }, definition)};
}

Table validate_table(const ValidationEvidence& evidence, const Settings& settings) {
    Table table{.name = "validate", .columns = point_columns(evidence.points)};
    const std::vector<Column> gaussian = {
        gaussian_column(evidence.points, Model::gaussian, "gaussian_miss_probability",
                        "miss probability of the model gaussian (the paper's)"),
        gaussian_column(evidence.points, Model::gaussian_fixed, "gaussian_fixed_miss_probability",
                        "miss probability of the model gaussian-fixed")};
    const int threads = settings.probe.threads;
    for (auto&& columns : {theory_columns(evidence.points, threads), gaussian,
                           simulation_columns(evidence.own, settings.confidence, threads),
                           kernel_columns(evidence.kernel, settings.confidence, threads)}) {
        table.columns.insert(table.columns.end(), columns.begin(), columns.end());
    }
    if (settings.shared_mean) {
        for (Column& column : measured_rounding_columns(evidence.points, *settings.shared_mean, settings.probe.seed,
                                                        threads, settings.confidence)) {
            table.columns.push_back(std::move(column));
        }
    }
    table.attributes = {{"confidence", settings.confidence}};
    return table;
}

}  // namespace

int run_validate(const Arguments& arguments, Terminal& terminal, const KernelUnderTest& kernel) {
    const PointGrid grid = routing_grid(arguments);
    const std::vector<RoutingPoint>& points = grid.points;
    const Settings settings = settings_of(arguments);
    if (settings.shared_mean) {
        // Refuses what has no theory, or is too large, before anything takes long.
        for (const RoutingPoint& point : with_each_mean(points, {*settings.shared_mean})) {
            require_rounding_fits(point);
        }
    }
    const ProbePlan plan = plan_probes(points, settings.probe);
    const ResumableOutput::Mode mode = output_mode(arguments);
    std::optional<ResumableOutput> output;
    if (arguments.given("out")) {
        const std::string task =
            grid.task_text() +
            fmt::format("trials={}\nconfidence={}\nalpha={}", settings.trials, shortest(settings.confidence),
                        shortest(settings.alpha)) +
            (settings.shared_mean ? fmt::format("\nshared_mean={}", shortest(*settings.shared_mean)) : "");
        output.emplace(arguments.text("out"), mode,
                       probe_results("validate", task, points, settings.probe, kernel, arguments));
    }
    if (output && output->finished()) {
        terminal.err << "mobalab validate: " << arguments.text("out") << " is complete; nothing left to do\n";
        return report_validation(output->finished()->table("validate"),
                                 output->finished()->table("validate_comparisons"), points, settings.alpha, arguments,
                                 terminal);
    }
    grid.report("validate", terminal);
    ValidationEvidence evidence =
        Gathering(points, plan, settings, kernel, output ? &*output : nullptr, terminal).gather();
    const int threads = settings.probe.threads;
    const Table comparisons = comparisons_table(compare(evidence, threads), settings.alpha);
    Table table = with_adjusted_p(validate_table(evidence, settings), comparisons);
    grid.describe(table);
    if (output) {
        output->commit({table, by_candidates_table(evidence.kernel, settings.confidence, threads), comparisons});
    }
    return report_validation(table, comparisons, points, settings.alpha, arguments, terminal);
}

Subcommand validate_command() {
    return {
        "validate",
        "theory, simulation and the real kernel at the same points: do they agree?",
        "Evaluates every point three times: by the exact formula, by simulation, and by planting needles in keys that "
        "the "
        "real kernel routes (see `mobalab route --help`). Compares each pair, overall and by number of candidates, "
        "checks "
        "the tie rule and the rule of candidates exactly, and corrects for the number of comparisons (Holm).\n"
        "\n"
        "Exit code 0: everything agrees at the family-wise error --alpha; 1: something does not (the worst comparisons "
        "are printed, each with a command that repeats its point); 2: bad input.\n"
        "\n"
        "exact_miss and simulated are of the last query (--model text: of one in the last block); kernel is over "
        "probes all along the sequence and belongs "
        "beside "
        "probe_exact. paper_miss is the model gaussian, reported but never a verdict, as is approx_miss, an "
        "approximation for what has no exact probability.\n"
        "\n"
        "--model text: keys along a text with RoPE, a mean, a spectrum, memory and a sink, as a trained model has "
        "them; "
        "all its probes stand in the last block, and the kernel is held against the simulation.\n"
        "\n"
        "With --router another process takes the kernel's place: does it route as --scorer does?\n"
        "\n"
        "--shared-mean adds how many rows the CPU kernel changes when it keeps centroids in 16 bits, beside what "
        "theory "
        "expects; no part of the verdict.\n"
        "\n"
        "With traces (`mobalab measure --help`): does the kernel find on a model's own queries and keys what a law "
        "predicts from statistics of other rows, or of another text? Each setting, and their mean error, must be "
        "within "
        "the law's stated error and what chance does to so many clusters of rows (Bonferroni).",
        probe_flags() + rounding_flags() +
            std::vector<Flag>{
                {"trials", "N", "0",
                 "simulated trials a point; 0: as many as a core draws in 0.1 s, "
                 "of model text in 2 s, with --device cuda in 2 s (then drawn there)"},
                {"alpha", "P", "1e-6",
                 "probability of a false disagreement, over all comparisons; of traces 0.05 where it is not given"}} +
            trace_validation_flags(),
        {{"validate", "one point with the default flags"},
         {"validate --head-dim 64,128 --block-size 32:128:x2 --topk 2,8 --mu-signal 0.7", "twelve points"},
         {"validate --config experiments/configs/paper.cfg --out paper.h5", "the standard grid, to a results file"},
         {"validate --config experiments/configs/paper.cfg --out paper.h5 --resume", "the same, after an interruption"},
         {"validate --config experiments/configs/reference.cfg --device cuda --out reference.h5",
          "the grid extended to 512K tokens, through the GPU kernel"},
         {"validate --dtype bf16 --probes 1e6 --json", "sixteen-bit tensors and a million probes, for a program"},
         {"validate --block-size 128 --topk 4 --shared-mean 10", "rounding of centroids too: expected and measured"},
         {"validate --config experiments/configs/text.cfg", "keys along a text, like those of a trained model"},
         {"validate book.safetensors --block-size 16:512:x2 --budget 1024 --skip-impossible",
          "does the kernel find in a model's heads what is predicted from half of their queries?"},
         {"validate code.safetensors --statistics book.safetensors", "and from another text?"}},
        "traces",
        [](const Arguments& arguments, Terminal& terminal) {
            check_flags_of_mode(arguments);
            if (!arguments.given("traces")) {
                return run_on_device(arguments, terminal, run_validate);
            }
            if (this_rank().helps) {
                return exit_ok;  // traces are not dealt
            }
            const MeasurePlan plan = trace_validation_plan(arguments);
            return run_trace_validation(arguments, plan, *chosen_meter(arguments, plan, terminal), terminal);
        },
        true,
        true};
}

}  // namespace mobalab::experiments
