#include "experiments/simulation/simulation_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "experiments/base/interrupt.h"
#include "experiments/base/number_bytes.h"
#include "experiments/base/parallel_for.h"
#include "experiments/ranks/work_dealer.h"
#include "experiments/simulation/chunk_message.h"
#include "experiments/simulation/miss_estimate.h"
#include "sim/engine/engine.h"

namespace mobalab::experiments {
namespace {

using Clock = std::chrono::steady_clock;

/// Points of at most this many chunks (a quarter of a second of one core) are dealt whole to a thread of a rank, longer
/// ones piece by piece to all.
constexpr std::uint64_t most_chunks_dealt_whole = 256;
constexpr std::uint64_t most_chunks_dealt_whole_on_cuda = 65536;

/// A journal record is written at most this often within a point: what a killed run may lose.
constexpr std::chrono::milliseconds record_period(50);

/// How much of a point's budget is used: the nearest of its stop rules.
double budget_used(const sim::Progress& progress, const sim::StopRule& stop) {
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

double share_done(const SimulationPlan& plan, const PointProgress& point) {
    return point.finished ? 1.0 : budget_used(point.progress, plan.budget.stop);
}

/// The other ranks' side of a point dealt in chunks.
class ChunkComputers {
public:
    explicit ChunkComputers(const SimulationPlan& plan) : plan_(plan) {}

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

    const SimulationPlan& plan_;
    std::mutex mutex_;
    std::size_t index_ = 0;  ///< of the point at work
    std::shared_ptr<const sim::ChunkComputer> computer_;
};

class Run {
public:
    Run(const SimulationPlan& plan, std::vector<PointProgress> points, ResumableOutput* output,
        const RunObserver& observer)
        : plan_(plan), points_(std::move(points)), output_(output), observer_(observer) {
        for (const PointProgress& point : points_) {
            shares_.push_back(share_done(plan_, point));
            done_ += shares_.back();
        }
    }

    std::vector<PointProgress> finish() {
        deal_points();
        deal_chunks(sim::Device::cpu, plan_.budget.threads);
        deal_chunks(sim::Device::cuda, 2);  // a rank has one device: a piece under way and one made ready
        return points_;
    }

private:
    /// Whole points side by side, each on one thread. Alone a point has all threads.
    void deal_points() {
        const auto answer = [this](const std::string& request) {
            const std::size_t space = request.find(' ');
            return record_of(simulate_whole(std::stoul(request), parse_record(request.substr(space + 1))));
        };
        if (!dealer_.begin(plan_.budget.threads, task_id(plan_.canonical_text()), answer)) {
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
        show(index);
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
        const PointProgress& point = points_[index];
        const double share = share_done(plan_, point);
        done_ += share - std::exchange(shares_[index], share);
        observer_({.fraction = done_ / static_cast<double>(points_.size()),
                   .point = index,
                   .finished = point.finished,
                   .counts_misses = sim::counts_trials(*plan_.budget_of(index).method),
                   .counts = point.progress.stats});
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

    const SimulationPlan& plan_;
    std::vector<PointProgress> points_;
    ResumableOutput* output_;
    const RunObserver& observer_;
    std::vector<double> shares_;  ///< of each point's work that is done
    double done_ = 0.0;           ///< their sum
    WorkDealer& dealer_ = work_dealer();
    Clock::time_point last_look_ = Clock::now();
};

}  // namespace

double fraction_done(const SimulationPlan& plan, const std::vector<PointProgress>& points) {
    double sum = 0.0;
    for (const PointProgress& point : points) {
        sum += share_done(plan, point);
    }
    return sum / static_cast<double>(points.size());
}

std::vector<PointProgress> recorded_points(const SimulationPlan& plan, const ResumableOutput* output) {
    return output != nullptr ? parse_records(output->records(), plan.points.size())
                             : std::vector<PointProgress>(plan.points.size());
}

std::vector<PointProgress> run_simulation(const SimulationPlan& plan, std::vector<PointProgress> points,
                                          ResumableOutput* output, const RunObserver& observer) {
    return Run(plan, std::move(points), output, observer).finish();
}

}  // namespace mobalab::experiments
