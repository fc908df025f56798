#include "experiments/simulation/simulation_columns.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "experiments/results/column_names.h"
#include "experiments/simulation/miss_estimate.h"

namespace mobalab::experiments {
namespace {

/// In the column of misses, where there are none.
constexpr std::int64_t no_misses = -1;

}  // namespace

std::vector<Column> simulation_columns(const SimulationPlan& plan, const std::vector<PointProgress>& points) {
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

}  // namespace mobalab::experiments
