#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <ostream>

#include "experiments/build_info.h"
#include "experiments/chunk_message.h"
#include "experiments/column_names.h"
#include "experiments/interrupt.h"
#include "experiments/kernel_under_test.h"
#include "experiments/miss_estimate.h"
#include "experiments/number_bytes.h"
#include "experiments/parallel_for.h"
#include "experiments/point_grid.h"
#include "experiments/progress.h"
#include "experiments/resumable_output.h"
#include "experiments/shorter_run.h"
#include "experiments/shown_columns.h"
#include "experiments/simulation_record.h"
#include "experiments/subcommands.h"
#include "experiments/table_text.h"
#include "experiments/values.h"
#include "experiments/work_dealer.h"
#include "sim/cuda/engine.h"
#include "sim/engine.h"

namespace mobalab::experiments {
namespace {

using analysis::RoutingPoint;
using Clock = std::chrono::steady_clock;

/// Points of at most this many chunks (a quarter of a second of one core) are dealt whole to a thread of a rank, longer
/// ones piece by piece to all.
constexpr std::uint64_t most_chunks_dealt_whole = 256;
constexpr std::uint64_t most_chunks_dealt_whole_on_cuda = 65536;

/// A journal record is written at most this often within a point: what a killed run may lose.
constexpr std::chrono::milliseconds record_period(50);

struct Plan {
    PointGrid grid;
    std::vector<RoutingPoint> points;        ///< of the grid
    std::vector<sim::MethodChoice> choices;  ///< one a point
    sim::Budget budget;
    bool any_device;  ///< --device auto: CUDA where the method has a kernel
    double confidence;

    /// The budget with the point's method and device.
    sim::Budget budget_of(std::size_t index) const {
        sim::Budget of_point = budget;
        of_point.method = choices[index].method;
        if (any_device && sim::cuda::kernel_trouble(points[index], choices[index].method).empty()) {
            of_point.device = sim::Device::cuda;
        }
        return of_point;
    }
};

/// Every point's method: the one asked for, or by --method auto the one that costs least.
std::vector<sim::MethodChoice> choices_of(const Plan& plan, const std::string& method) {
    const sim::StopRule& stop = plan.budget.stop;
    std::vector<sim::MethodChoice> choices;
    for (const RoutingPoint& point : plan.points) {
        if (method != "auto") {
            choices.push_back({sim::parse_method(method), "asked for"});
            sim::check_method(point, choices.back().method);
        } else {
            const double target = stop.max_misses > 0 ? 0.0 : stop.target_relative_error;
            choices.push_back(sim::choose_method(point, target, static_cast<double>(stop.max_trials)));
        }
        if (choices.back().method == sim::Method::conditional && stop.max_misses > 0) {
            throw analysis::InputError(
                "max-misses: method conditional counts no misses; use --target-relative-error, or --method threshold");
        }
    }
    return choices;
}

void set_device(Plan& plan, const std::string& device) {
    const std::string trouble = device == "cpu" ? "" : sim::cuda::device_trouble();
    plan.any_device = device == "auto" && trouble.empty();
    if (device != "cuda") {
        return;
    }
    if (!trouble.empty()) {
        throw analysis::InputError(fmt::format("device = cuda: {}; use cpu", trouble));
    }
    for (std::size_t i = 0; i < plan.points.size(); ++i) {
        const sim::Method method = plan.choices[i].method;
        const std::string no_kernel =
            sim::counts_trials(method) ? sim::cuda::kernel_trouble(plan.points[i], method) : "";
        if (!no_kernel.empty()) {
            throw analysis::InputError("device = cuda: " + no_kernel);
        }
    }
    plan.budget.device = sim::Device::cuda;
}

Plan plan_of(const Arguments& arguments) {
    Plan plan;
    plan.grid = routing_grid(arguments);
    plan.points = plan.grid.points;
    sim::StopRule& stop = plan.budget.stop;
    stop.max_trials = static_cast<std::uint64_t>(arguments.integer("trials", 1, std::int64_t{1} << 53));
    stop.max_misses = static_cast<std::uint64_t>(arguments.integer("max-misses", 0));
    stop.target_relative_error = arguments.real("target-relative-error", 0.0, 1.0);
    stop.max_seconds = arguments.real("max-seconds", 0.0, 1e9);
    plan.budget.seed = static_cast<std::uint64_t>(arguments.integer("seed", 0));
    plan.budget.threads = worker_threads(arguments);
    plan.confidence = arguments.real("confidence", 0.5, 1.0 - 1e-12);
    plan.choices = choices_of(
        plan, arguments.choice("method", {"auto", "vector", "affinity", "block", "threshold", "conditional", "exact"}));
    set_device(plan, arguments.choice("device", {"cpu", "cuda", "auto"}));
    return plan;
}

/// Everything the file's tables depend on.
std::string canonical_text(const Plan& plan) {
    const sim::StopRule& stop = plan.budget.stop;
    std::string text = fmt::format(
        "simulate\nschema={}\nseed={}\ntrials={}\nmax_misses={}\ntarget_relative_error={}\nmax_seconds={}\nconfidence={"
        "}\n",
        results_schema_version, plan.budget.seed, stop.max_trials, stop.max_misses,
        shortest(stop.target_relative_error), shortest(stop.max_seconds), shortest(plan.confidence));
    text += plan.grid.task_text();
    for (std::size_t i = 0; i < plan.points.size(); ++i) {
        text += fmt::format("{};seq_len={};method={}\n", analysis::canonical_text(plan.points[i]),
                            plan.points[i].seq_len, to_string(plan.choices[i].method));
    }
    return text;
}

/// How much of a point's budget is used: the nearest of its stop rules.
double fraction_done(const sim::Progress& progress, const sim::StopRule& stop) {
    const auto trials = static_cast<double>(progress.stats.trials);
    const auto misses = static_cast<double>(progress.stats.misses);
    double fraction = trials / static_cast<double>(stop.max_trials);
    if (stop.max_misses > 0) {
        fraction = std::max(fraction, misses / static_cast<double>(stop.max_misses));
    }
    if (stop.max_seconds > 0.0) {
        fraction = std::max(fraction, progress.seconds / stop.max_seconds);
    }
    if (stop.target_relative_error > 0.0) {  // the squared error falls like 1 / misses
        fraction = std::max(fraction, misses * stop.target_relative_error * stop.target_relative_error);
    }
    return std::min(fraction, 1.0);
}

/// The other ranks' side of a point dealt in chunks.
class ChunkComputers {
public:
    explicit ChunkComputers(const Plan& plan) : plan_(plan) {}

    static std::string request(std::size_t index, sim::TrialRange range) {
        const std::int64_t numbers[] = {static_cast<std::int64_t>(index), static_cast<std::int64_t>(range.begin),
                                        static_cast<std::int64_t>(range.end)};
        return bytes_of(std::span<const std::int64_t>(numbers));
    }

    std::string answer(const std::string& request) {
        const std::vector<std::int64_t> numbers = numbers_of(request);
        const auto computer = computer_of(static_cast<std::size_t>(numbers.at(0)));
        return bytes_of(
            (*computer)({static_cast<std::uint64_t>(numbers.at(1)), static_cast<std::uint64_t>(numbers.at(2))}));
    }

private:
    std::shared_ptr<const sim::ChunkComputer> computer_of(std::size_t index) {
        const std::lock_guard lock(mutex_);
        if (computer_ == nullptr || index != index_) {
            computer_ = std::make_shared<const sim::ChunkComputer>(plan_.points.at(index), plan_.budget_of(index));
            index_ = index;
        }
        return computer_;
    }

    const Plan& plan_;
    std::mutex mutex_;
    std::size_t index_ = 0;  ///< of the point at work
    std::shared_ptr<const sim::ChunkComputer> computer_;
};

/// Runs the points, alone or with other ranks, and keeps the journal and the display up to date.
class Run {
public:
    Run(const Plan& plan, ResumableOutput* output, Terminal& terminal)
        : plan_(plan), output_(output), display_(terminal, "simulate"), points_(plan.points.size()) {
        if (output_ != nullptr) {
            points_ = parse_records(output_->records(), points_.size());
        }
        display_.start_at(whole_fraction());
    }

    std::vector<PointProgress> finish() {
        deal_points();
        deal_chunks(sim::Device::cpu, plan_.budget.threads);
        deal_chunks(sim::Device::cuda, 2);  // a rank has one device: a piece under way and one made ready
        return points_;
    }

private:
    double whole_fraction() const {
        double sum = 0.0;
        for (const PointProgress& point : points_) {
            sum += point.finished ? 1.0 : fraction_done(point.progress, plan_.budget.stop);
        }
        return sum / static_cast<double>(points_.size());
    }

    /// Whole points side by side, each on one thread. Alone a point has all threads.
    void deal_points() {
        const auto answer = [this](const std::string& request) {
            const std::size_t space = request.find(' ');
            return record_of(simulate_whole(std::stoul(request), parse_record(request.substr(space + 1))));
        };
        if (!dealer_.begin(plan_.budget.threads, task_id(canonical_text(plan_)), answer)) {
            return;
        }
        std::vector<std::size_t> indices;
        for (std::size_t index = 0; index < points_.size() && dealer_.helpers() > 0; ++index) {
            if (!points_[index].finished && dealt_whole(index)) {
                indices.push_back(index);
            }
        }
        std::mutex mutex;
        parallel_for(indices.size(), plan_.budget.threads + dealer_.helpers(), [&](std::size_t i) {
            const std::size_t index = indices[i];
            const auto reply = dealer_.ask(fmt::format("{} {}", index, record_of(points_[index])));
            PointProgress point = reply ? parse_record(*reply) : simulate_whole(index, points_[index]);
            const std::lock_guard lock(mutex);
            points_[index] = std::move(point);
            settle(index);
            show(index);
        });
    }

    bool dealt_whole(std::size_t index) const {
        const sim::Budget budget = plan_.budget_of(index);
        if (!sim::counts_trials(*budget.method)) {
            return true;
        }
        const std::uint64_t chunk = sim::chunk_trials(plan_.points[index], budget.method);
        return budget.stop.max_trials / chunk <
               (budget.device == sim::Device::cuda ? most_chunks_dealt_whole_on_cuda : most_chunks_dealt_whole);
    }

    PointProgress simulate_whole(std::size_t index, const PointProgress& start) const {
        sim::Budget budget = plan_.budget_of(index);
        budget.threads = 1;
        return run_point(index, budget, start.progress, [](const sim::Progress&) { return !interrupted(); });
    }

    PointProgress run_point(std::size_t index, const sim::Budget& budget, const sim::Progress& start,
                            const sim::ChunkObserver& observer) const {
        if (!sim::counts_trials(*budget.method)) {
            return estimate_without_counts(plan_.points[index], *budget.method, budget);
        }
        const sim::SimulationResult result = sim::simulate(plan_.points[index], budget, start, observer);
        return {result.progress, result.reason != sim::StopReason::interrupted, result.reason};
    }

    /// The points of a device one after the other, each on `threads` threads of all ranks.
    void deal_chunks(sim::Device device, int threads) {
        ChunkComputers computers(plan_);
        const auto answer = [&](const std::string& request) { return computers.answer(request); };
        if (!dealer_.begin(threads, "", answer)) {
            return;
        }
        for (std::size_t index = 0; index < points_.size(); ++index) {
            if (!points_[index].finished && plan_.budget_of(index).device == device) {
                simulate_point(index);
            }
        }
    }

    sim::ChunkHelpers helpers(std::size_t index) const {
        return {dealer_.helpers(), [this, index](sim::TrialRange range) -> std::optional<std::vector<sim::TrialStats>> {
                    const auto reply = dealer_.ask(ChunkComputers::request(index, range));
                    return reply ? std::optional(stats_of(*reply)) : std::nullopt;
                }};
    }

    void simulate_point(std::size_t index) {
        sim::Budget budget = plan_.budget_of(index);
        budget.helpers = helpers(index);
        const sim::Progress start = points_[index].progress;
        try {
            points_[index] = run_point(index, budget, start, [this, index](const sim::Progress& progress) {
                return observe(index, progress);
            });
        } catch (const Interrupted&) {
            // a rank does not answer; what was counted before is in points_[index]
        }
        settle(index);
    }

    /// Records what has become of a point; an unfinished one ends the run.
    void settle(std::size_t index) {
        record(index);
        if (!points_[index].finished) {
            stop_here(index);
        }
    }

    bool observe(std::size_t index, const sim::Progress& progress) {
        points_[index].progress = progress;
        if (Clock::now() - last_look_ >= record_period) {
            last_look_ = Clock::now();
            record(index);
            show(index);
        }
        return !interrupted();
    }

    void show(std::size_t index) {
        const sim::TrialStats& stats = points_[index].progress.stats;
        display_.update(whole_fraction(), fmt::format("point {} of {}: {} trials, {} misses", index + 1, points_.size(),
                                                      stats.trials, stats.misses));
    }

    void record(std::size_t index) {
        if (output_ != nullptr) {
            output_->record(static_cast<std::int64_t>(index), record_of(points_[index]));
        }
    }

    [[noreturn]] void stop_here(std::size_t index) const {
        throw Interrupted(fmt::format("{} in point {} of {}; {}", stop_cause(), index + 1, points_.size(),
                                      output_ != nullptr ? "the same command with --resume goes on from here"
                                                         : "with --out a run can be resumed"));
    }

    const Plan& plan_;
    ResumableOutput* output_;
    WorkDealer& dealer_ = work_dealer();
    ProgressDisplay display_;
    std::vector<PointProgress> points_;
    Clock::time_point last_look_ = Clock::now();
};

/// In the column of misses, where there are none.
constexpr std::int64_t no_misses = -1;

std::vector<Column> simulation_columns(const Plan& plan, const std::vector<PointProgress>& points) {
    std::vector<std::int64_t> trials;
    std::vector<std::int64_t> misses;
    std::vector<double> miss;
    std::vector<double> low;
    std::vector<double> high;
    std::vector<std::string> reasons;
    std::vector<std::string> methods;
    std::vector<std::string> method_reasons;
    for (std::size_t i = 0; i < points.size(); ++i) {
        const sim::Method method = plan.choices[i].method;
        const MissEstimate estimate = miss_estimate(plan.points[i], method, points[i], plan.confidence);
        trials.push_back(estimate.trials);
        misses.push_back(estimate.misses.value_or(no_misses));
        miss.push_back(estimate.miss);
        low.push_back(estimate.low);
        high.push_back(estimate.high);
        reasons.emplace_back(sim::to_string(points[i].reason));
        methods.emplace_back(sim::to_string(method));
        method_reasons.push_back(plan.choices[i].reason);
    }
    const std::string definition = interval_definition(plan.confidence);
    const bool some_uncounted = std::count(misses.begin(), misses.end(), no_misses) > 0;
    return {{"method", "method of the simulation", "", std::move(methods)},
            {"method_reason", "why that method was taken", "", std::move(method_reasons)},
            {"trials", "simulated trials", "1", std::move(trials)},
            {"misses", "trials whose signal block was not routed", "1", std::move(misses),
             some_uncounted ? "none where method counts no trials" : "",
             some_uncounted ? std::optional(no_misses) : std::nullopt},
            {"miss", "simulated miss probability", "1", std::move(miss), miss_definition()},
            {"low", "lower end of the interval of miss", "1", std::move(low), definition},
            {"high", "upper end of the interval of miss", "1", std::move(high), definition},
            {"stop_reason", "stop rule that ended the point", "", std::move(reasons)},
            seed_column(plan.budget.seed, points.size())};
}

Table simulation_table(const Plan& plan, const std::vector<PointProgress>& points) {
    Table table;
    table.name = "simulate";
    table.columns = point_columns(plan.points);
    for (auto&& columns : {theory_columns(plan.points, plan.budget.threads), simulation_columns(plan, points)}) {
        table.columns.insert(table.columns.end(), columns.begin(), columns.end());
    }
    table.attributes = {{"interval", interval_definition(plan.confidence)}, {"confidence", plan.confidence}};
    plan.grid.describe(table);
    return table;
}

void print(const Table& table, std::uint64_t seed, const Arguments& arguments, Terminal& terminal) {
    if (print_for_program(table, arguments, terminal)) {
        return;
    }
    terminal.out << fmt::format("seed {}, ", seed) << human_table(table, simulated_parameters(), simulated_answers());
}

/// What the points are drawn on, each device once.
std::string devices_of(const Plan& plan) {
    bool cpu = false;
    bool cuda = false;
    for (std::size_t i = 0; i < plan.points.size(); ++i) {
        const sim::Budget budget = plan.budget_of(i);
        const bool on_cuda = budget.device == sim::Device::cuda && sim::counts_trials(*budget.method);
        (on_cuda ? cuda : cpu) = true;
    }
    if (!cuda) {
        return cpu_name();
    }
    const std::string gpu = fmt::format("cuda ({})", cuda_kernel(1)->processor());
    return cpu ? fmt::format("{}, cpu ({})", gpu, cpu_name()) : gpu;
}

Results identity(const Plan& plan, const Arguments& arguments) {
    Results results = new_results("simulate");
    results.task = task_id(canonical_text(plan));
    results.command = arguments.command_line();
    results.settings = arguments.settings();
    results.seed = plan.budget.seed;
    results.device = devices_of(plan);
    return results;
}

/// What a finished file of the same points, seed, methods and confidence says where this run's stop rules only let it
/// go further: the journal records it would have been at. Nothing when the file is not such a one. Throws InputError
/// when it is and these rules would have ended a point before.
std::optional<Journal::Records> records_of_shorter_run(const Results& found, const Plan& plan,
                                                       const Arguments& arguments) {
    const std::optional<Arguments> asked = with_stop_rules_of(found, arguments);
    if (!asked) {
        return std::nullopt;
    }
    const Plan before = plan_of(*asked);
    if (found.task != task_id(canonical_text(before))) {
        return std::nullopt;
    }
    check_goes_further(before.budget.stop, plan.budget.stop);
    const Table& table = found.table("simulate");
    Journal::Records records;
    for (std::size_t i = 0; i < plan.points.size(); ++i) {
        const sim::Method method = plan.choices[i].method;
        if (method == before.choices[i].method && sim::counts_trials(method)) {
            records[static_cast<std::int64_t>(i)] =
                record_of(progress_of_counts(plan.points[i], method,
                                             {.trials = static_cast<std::uint64_t>(table.integers("trials").at(i)),
                                              .misses = static_cast<std::uint64_t>(table.integers("misses").at(i)),
                                              .rank_histogram = {}}));
        }
    }
    return records;
}

int run_simulate(const Arguments& arguments, Terminal& terminal) {
    const Plan plan = plan_of(arguments);
    const ResumableOutput::Mode mode = output_mode(arguments);
    std::optional<ResumableOutput> output;
    if (arguments.given("out")) {
        output.emplace(arguments.text("out"), mode, identity(plan, arguments),
                       [&](const Results& found) { return records_of_shorter_run(found, plan, arguments); });
    }
    plan.grid.report("simulate", terminal);
    if (output && output->finished()) {
        terminal.err << "mobalab simulate: " << arguments.text("out") << " is complete; nothing left to do\n";
        print(output->finished()->table("simulate"), plan.budget.seed, arguments, terminal);
        return exit_ok;
    }
    if (output && output->extends()) {
        terminal.err << "mobalab simulate: going on from the trials that " << arguments.text("out") << " holds\n";
    }
    const Table table = simulation_table(plan, Run(plan, output ? &*output : nullptr, terminal).finish());
    if (output) {
        output->commit({table});
    }
    print(table, plan.budget.seed, arguments, terminal);
    return exit_ok;
}

std::vector<Flag> stop_flags() {
    return {{"trials", "N", "1e5", "stop a point after N trials"},
            {"max-misses", "N", "0", "or after N misses (0: not a rule)"},
            {"target-relative-error", "X", "0",
             "or when the standard error of the miss estimate falls to X of it (0: not a "
             "rule)"},
            {"max-seconds", "S", "0", "or after S seconds (0: not a rule); counts then depend on the clock"}};
}

}  // namespace

Subcommand simulate_command() {
    return {"simulate",
            "Monte Carlo on the same grid, with intervals",
            "Draws trials of every point of the grid under its model and counts misses: trials in which the needle's "
            "block is not among the blocks the query attends to. A point stops at the first stop rule met. The counts "
            "follow from seed, point and stop rule alone, whatever the number of threads.\n"
            "\n"
            "low and high are the Clopper-Pearson interval of the miss probability (method conditional: of a mean of "
            "weights, by the central limit theorem on the log scale; exact: its error); exact_miss is the theory of "
            "the model, a dash where it has none (correlated unit keys, key convolution).\n"
            "\n"
            "With --out the run can be killed at any moment and continued with --resume; the file ends with the same "
            "bytes as that of an uninterrupted run. A finished file goes on as well: --resume with more --trials (or "
            "--max-misses, or a smaller --target-relative-error) starts from its counts and ends with those of a run "
            "that was asked for as many from the start.",
            point_flags() + needle_flags() + key_conv_flags() + stop_flags() + engine_flags("1") +
                std::vector<Flag>{{"method", "NAME", "auto",
                                   "vector, affinity, block, threshold, conditional, exact; auto: the point's own, or "
                                   "with --target-relative-error the cheapest that reaches it"},
                                  {"device", "NAME", "cpu",
                                   "where to draw: cpu, cuda, or auto (cuda where it can); the counts are the same"},
                                  {"confidence", "P", "0.95", "confidence of the intervals"}} +
                resumable_output_flags() + table_flags(),
            {{"simulate --trials 1e6", "one point with the default flags, a million trials"},
             {"simulate --head-dim 2048 --block-size 16 --target-relative-error 0.01",
              "a miss of one in 10^15, to one percent in a fraction of a second"},
             {"simulate --head-dim 64,128 --block-size 32:512:x2 --max-misses 1000 --trials 1e7",
              "ten points, each to 1000 misses (3 % standard error)"},
             {"simulate --target-relative-error 0.01 --max-seconds 60 --trials 1e9 --out miss.h5",
              "to one percent, but at most a minute a point; written to a results file"},
             {"simulate --target-relative-error 0.01 --max-seconds 60 --trials 1e9 --out miss.h5 --resume",
              "the same, after an interruption"},
             {"simulate --trials 1e6 --out more.h5 --resume", "more trials of a file that was finished with fewer"},
             {"simulate --needles 4 --goal each,any,all", "four needles: the share found, any of them, all of them"},
             {"simulate --key-correlation 0:0.2:+0.05", "what keys that resemble their block's others change"},
             {"simulate --key-conv 3,5 --head-dim 32 --block-size 16 --seq-len 1K --trials 2000",
              "the key convolution of the kernels, on real vectors"},
             {"simulate --model gaussian,sphere,vector --trials 1e4 --json",
              "three models beside each other, for a program"}},
            "",
            run_simulate,
            true};
}

}  // namespace mobalab::experiments
