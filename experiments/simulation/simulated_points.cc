#include "experiments/simulation/simulated_points.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <numeric>
#include <optional>

#include "experiments/base/interrupt.h"
#include "experiments/base/number_bytes.h"
#include "experiments/base/parallel_for.h"
#include "experiments/ranks/work_dealer.h"
#include "sim/cuda/engine.h"
#include "sim/engine/engine.h"
#include "sim/samplers/method.h"

namespace mobalab::experiments {
namespace {

using analysis::RoutingPoint;

constexpr double chunk_seconds = 1e-3;  // sim/engine/engine.cc sizes its chunks for about this much of one core

std::uint64_t trials_of(const RoutingPoint& point, const SimulationSettings& settings) {
    const bool text = analysis::definition_of(point.model).text_keys;
    const double chunks = std::ceil((text ? settings.text_core_seconds : settings.core_seconds) / chunk_seconds);
    return settings.trials > 0 ? settings.trials : static_cast<std::uint64_t>(chunks) * sim::chunk_trials(point);
}

// Ranks of the signal block, last bin: everything beyond.
std::vector<std::int64_t> rank_histogram(const RoutingPoint& point, const SimulationSettings& settings) {
    sim::Budget budget{.stop = {}, .seed = settings.seed, .threads = settings.threads, .device = settings.device};
    budget.stop.max_trials = trials_of(point, settings);
    if (!sim::cuda::kernel_trouble(point, sim::native_method(point)).empty()) {
        budget.device = sim::Device::cpu;
    }
    const sim::SimulationResult result =
        sim::simulate(point, budget, {}, [](const sim::Progress&) { return !interrupted(); });
    if (result.reason == sim::StopReason::interrupted) {
        throw Interrupted(stop_cause() + " in the simulation; " + StopAdvice::present());
    }
    const std::vector<std::uint64_t>& ranks = result.progress.stats.rank_histogram;
    return {ranks.begin(), ranks.end()};
}

// Of every point. Many points of a CPU side by side, each on one thread, as starting all threads for each would take
// longer than the point; with other ranks always so. Else one after the other on all threads.
std::vector<std::vector<std::int64_t>> rank_histograms(
    const std::vector<RoutingPoint>& points, const SimulationSettings& settings, UnitJournal& journal,
    std::int64_t first_unit, const std::function<void(double, const std::string&)>& progress) {
    SimulationSettings one_thread = settings;
    one_thread.threads = 1;
    WorkDealer& dealer = work_dealer();
    std::vector<std::vector<std::int64_t>> histograms(points.size());
    if (!dealer.begin(settings.threads, "", [&](const std::string& request) {
            return bytes_of(rank_histogram(points.at(std::stoul(request)), one_thread));
        })) {
        return histograms;
    }
    const int threads = thread_count(settings.threads);
    const bool side_by_side = dealer.helpers() > 0 || (settings.device == sim::Device::cpu &&
                                                       std::ssize(points) >= 4 * std::ptrdiff_t{threads});
    std::size_t done = 0;
    std::mutex mutex;
    parallel_for(points.size(), side_by_side ? threads + dealer.helpers() : 1, [&](std::size_t i) {
        const std::int64_t unit = first_unit + static_cast<std::int64_t>(i);
        std::unique_lock lock(mutex);
        const auto record = journal.find(unit);
        lock.unlock();
        std::vector<std::int64_t> ranks;
        if (record) {
            ranks = *record;
        } else if (const auto reply = dealer.ask(std::to_string(i))) {
            ranks = numbers_of(*reply);
        } else {
            ranks = rank_histogram(points[i], side_by_side ? one_thread : settings);
        }
        lock.lock();
        if (!record) {
            journal.record(unit, ranks);
        }
        histograms[i] = std::move(ranks);
        ++done;
        progress(static_cast<double>(done) / static_cast<double>(points.size()),
                 fmt::format("simulation: {}, {} of {}", to_string(points[i].model), done, points.size()));
    });
    return histograms;
}

// A block beaten by `routed` or more noise blocks is lost.
SimulatedMisses misses_at(const std::vector<std::int64_t>& ranks, std::int64_t routed) {
    const auto first_lost = ranks.begin() + std::min(routed, std::ssize(ranks));
    return {.trials = static_cast<std::uint64_t>(std::accumulate(ranks.begin(), ranks.end(), std::int64_t{0})),
            .misses = static_cast<std::uint64_t>(std::accumulate(first_lost, ranks.end(), std::int64_t{0}))};
}

}  // namespace

bool can_be_simulated(const RoutingPoint& point) {
    try {
        analysis::validate(point);
        return true;
    } catch (const analysis::InputError&) {
        return false;
    }
}

std::vector<SimulatedMisses> simulate_points(const std::vector<RoutingPoint>& points,
                                             const SimulationSettings& settings, UnitJournal& journal,
                                             std::int64_t first_unit,
                                             const std::function<void(double, const std::string&)>& progress) {
    std::map<std::string, std::size_t> places;  // in `questions`, by the point without its topk
    std::vector<RoutingPoint> questions;
    std::vector<std::optional<std::size_t>> place_of_point;
    for (const RoutingPoint& point : points) {
        if (!can_be_simulated(point)) {
            place_of_point.push_back(std::nullopt);
            continue;
        }
        RoutingPoint question = point;
        question.topk = std::min<std::int64_t>(2, point.candidates + 1);
        const auto [place, fresh] = places.try_emplace(analysis::canonical_text(question), questions.size());
        if (fresh) {
            questions.push_back(question);
        }
        place_of_point.push_back(place->second);
    }
    const auto histograms = rank_histograms(questions, settings, journal, first_unit, progress);
    std::vector<SimulatedMisses> result;
    for (std::size_t i = 0; i < points.size(); ++i) {
        const std::optional<std::size_t> place = place_of_point[i];
        result.push_back(place ? misses_at(histograms[*place], points[i].routed()) : SimulatedMisses{});
    }
    return result;
}

}  // namespace mobalab::experiments
