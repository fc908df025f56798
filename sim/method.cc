#include "sim/method.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "analysis/hit_probability.h"
#include "analysis/hit_problem.h"
#include "sim/conditional.h"

namespace mobalab::sim {
namespace {

using analysis::InputError;
using analysis::Model;
using analysis::RoutingPoint;

constexpr std::array<std::pair<Method, std::string_view>, 6> kNames = {{{Method::vector, "vector"},
                                                                        {Method::affinity, "affinity"},
                                                                        {Method::block, "block"},
                                                                        {Method::threshold, "threshold"},
                                                                        {Method::conditional, "conditional"},
                                                                        {Method::exact, "exact"}}};

bool is_normal(Model model) {
    return model == Model::gaussian || model == Model::gaussian_fixed;
}

/// Whether the K-th largest noise score and the signal score are both random.
bool has_random_threshold(const RoutingPoint& point) {
    return point.routed() >= 1 && point.routed() <= point.noise_blocks() && !analysis::signal_is_fixed(point);
}

// Nanoseconds of one core, measured (tests/perf/NOTES_sim.md): a trial, and the tables.
constexpr double kConditionalTrial = 8.0;
constexpr double kConditionalTables = 2e7;
constexpr double kThresholdTables = 5e6;

double threshold_trial(const RoutingPoint& point) {
    return 0.17 * static_cast<double>(point.noise_blocks()) + 10.0;
}

}  // namespace

std::string_view to_string(Method method) {
    for (const auto& [known, name] : kNames) {
        if (known == method) {
            return name;
        }
    }
    throw std::logic_error("to_string: not a Method");
}

Method parse_method(std::string_view name) {
    for (const auto& [method, known] : kNames) {
        if (known == name) {
            return method;
        }
    }
    throw InputError(
        fmt::format("method = '{}': must be one of vector, affinity, block, threshold, conditional, exact", name));
}

Method native_method(Model model) {
    return is_normal(model) ? Method::block : model == Model::sphere ? Method::affinity : Method::vector;
}

bool counts_trials(Method method) {
    return method != Method::conditional && method != Method::exact;
}

void check_method(const RoutingPoint& point, Method method) {
    if (is_normal(point.model) && (method == Method::vector || method == Method::affinity)) {
        throw InputError(fmt::format(
            "method = {}: model {} has block scores only, no keys; use method block or threshold, or model sphere",
            to_string(method), analysis::to_string(point.model)));
    }
    if (method == Method::conditional && !has_random_threshold(point)) {
        throw InputError(fmt::format(
            "method = conditional: needs 1 <= topk - 1 <= candidates - 1 and a signal score that is random (topk = {}, "
            "candidates = {}, cluster_size = {}, block_size = {}); use method exact or threshold",
            point.topk, point.candidates, point.cluster_size, point.block_size));
    }
}

MethodChoice choose_method(const RoutingPoint& point, double target_relative_error, double max_trials) {
    if (!(target_relative_error > 0.0)) {
        return {native_method(point.model), "no precision was asked for: the model's own sampler"};
    }
    const double squares = target_relative_error * target_relative_error;
    const analysis::HitProbability exact = analysis::exact_hit_probability(point);
    const double counting_trials = std::exp(exact.log_hit - exact.log_miss) / squares;
    const double counting_cost = kThresholdTables + counting_trials * threshold_trial(point);
    // Room for the chance that a run needs more than its expected number of trials.
    constexpr double kRoom = 1.5;
    const bool counting_fits = kRoom * counting_trials < max_trials;
    if (has_random_threshold(point)) {
        const double trials = ConditionalSampler(point, 0).moments().relative_variance / squares;
        const double cost = kConditionalTables + trials * kConditionalTrial;
        if (kRoom * trials < max_trials && !(counting_fits && counting_cost < cost)) {
            return {Method::conditional, fmt::format("about {:.2g} weighted trials reach the target", trials)};
        }
    }
    if (counting_fits) {
        return {Method::threshold, fmt::format("about {:.2g} counted trials reach the target", counting_trials)};
    }
    return {Method::exact, "no sampler reaches the target within the trials allowed"};
}

}  // namespace mobalab::sim
