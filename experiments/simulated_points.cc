#include "experiments/simulated_points.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "experiments/interrupt.h"
#include "sim/engine.h"

namespace mobalab::experiments {
namespace {

using analysis::RoutingPoint;

constexpr double chunk_seconds = 1e-3;  // sim/engine.cc sizes its chunks for about this much of one core

std::uint64_t trials_of(const RoutingPoint& point, const SimulationSettings& settings) {
    const double chunks = std::ceil(settings.core_seconds / chunk_seconds);
    return settings.trials > 0 ? settings.trials : static_cast<std::uint64_t>(chunks) * sim::chunk_trials(point);
}

// Ranks of the signal block, last bin: everything beyond.
std::vector<std::int64_t> rank_histogram(const RoutingPoint& point, const SimulationSettings& settings) {
    sim::Budget budget{.stop = {}, .seed = settings.seed, .threads = settings.threads};
    budget.stop.max_trials = trials_of(point, settings);
    const sim::SimulationResult result =
        sim::simulate(point, budget, {}, [](const sim::Progress&) { return !interrupted(); });
    if (result.reason == sim::StopReason::interrupted) {
        throw Interrupted("stopped in the simulation");
    }
    const std::vector<std::uint64_t>& ranks = result.progress.stats.rank_histogram;
    return {ranks.begin(), ranks.end()};
}

// A block beaten by `routed` or more noise blocks is lost.
SimulatedMisses misses_at(const std::vector<std::int64_t>& ranks, std::int64_t routed) {
    const auto first_lost = ranks.begin() + std::min(routed, std::ssize(ranks));
    return {.trials = static_cast<std::uint64_t>(std::accumulate(ranks.begin(), ranks.end(), std::int64_t{0})),
            .misses = static_cast<std::uint64_t>(std::accumulate(first_lost, ranks.end(), std::int64_t{0}))};
}

}  // namespace

std::vector<SimulatedMisses> simulate_points(const std::vector<RoutingPoint>& points,
                                             const SimulationSettings& settings, UnitJournal& journal,
                                             std::int64_t first_unit,
                                             const std::function<void(double, const std::string&)>& progress) {
    std::map<std::string, std::vector<std::int64_t>> runs;  // by the point without its topk
    std::vector<SimulatedMisses> result;
    for (const RoutingPoint& point : points) {
        RoutingPoint question = point;
        question.topk = std::min<std::int64_t>(2, point.candidates + 1);
        const auto [run, fresh] = runs.try_emplace(analysis::canonical_text(question));
        if (fresh) {
            const std::int64_t unit = first_unit + std::ssize(runs) - 1;
            const auto record = journal.find(unit);
            run->second = record ? *record : rank_histogram(question, settings);
            if (!record) {
                journal.record(unit, run->second);
            }
        }
        result.push_back(misses_at(run->second, point.routed()));
        progress(static_cast<double>(result.size()) / static_cast<double>(points.size()),
                 fmt::format("simulation: {}, point {} of {}", to_string(point.model), result.size(), points.size()));
    }
    return result;
}

}  // namespace mobalab::experiments
