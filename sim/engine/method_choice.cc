#include "sim/engine/method_choice.h"

#include <fmt/format.h>

#include <cmath>

#include "analysis/hit_probability.h"
#include "analysis/hit_problem.h"
#include "sim/engine/conditional.h"

namespace mobalab::sim {
namespace {

using analysis::RoutingPoint;

// Nanoseconds of one core, measured (tests/perf/NOTES_sim.md): a trial, and the tables.
constexpr double kConditionalTrial = 8.0;
constexpr double kConditionalTables = 2e7;
constexpr double kThresholdTables = 5e6;

double threshold_trial(const RoutingPoint& point) {
    return 0.17 * static_cast<double>(point.noise_blocks()) + 10.0;
}

}  // namespace

MethodChoice choose_method(const RoutingPoint& point, double target_relative_error, double max_trials) {
    if (!(target_relative_error > 0.0)) {
        return {native_method(point), "no precision was asked for: the model's own sampler"};
    }
    if (!analysis::has_exact_probability(point)) {
        return {native_method(point), "only trials can answer: the model's own sampler"};
    }
    const double squares = target_relative_error * target_relative_error;
    const analysis::HitProbability exact = analysis::exact_hit_probability(point);
    const double counting_trials = std::exp(exact.log_hit - exact.log_miss) / squares;
    // Room for the chance that a run needs more than its expected number of trials.
    constexpr double kRoom = 1.5;
    const bool counting_fits = kRoom * counting_trials < max_trials;
    const auto can = [&point](Method method) { return method_trouble(point, method).empty(); };
    const Method counting = can(Method::threshold) ? Method::threshold
                            : can(Method::block)   ? Method::block
                                                   : native_method(point);
    if (can(Method::conditional)) {
        const double counting_cost = kThresholdTables + counting_trials * threshold_trial(point);
        const double trials = ConditionalSampler(point, 0).moments().relative_variance / squares;
        const double cost = kConditionalTables + trials * kConditionalTrial;
        if (kRoom * trials < max_trials && !(counting_fits && counting_cost < cost)) {
            return {Method::conditional, fmt::format("about {:.2g} weighted trials reach the target", trials)};
        }
    }
    if (counting_fits) {
        return {counting, fmt::format("about {:.2g} counted trials reach the target", counting_trials)};
    }
    return {Method::exact, "no sampler reaches the target within the trials allowed"};
}

}  // namespace mobalab::sim
