#include "experiments/simulation/miss_estimate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "analysis/binomial_interval.h"
#include "analysis/hit_probability.h"
#include "experiments/base/interrupt.h"
#include "experiments/base/values.h"
#include "sim/engine/conditional.h"

namespace mobalab::experiments {
namespace {

/// Relative error of analysis::exact_hit_probability().
constexpr double exact_error = 1e-8;

}  // namespace

MissEstimate miss_estimate(const analysis::RoutingPoint& point, sim::Method method, const PointProgress& progress,
                           double confidence) {
    const auto trials = static_cast<std::int64_t>(progress.progress.stats.trials);
    if (method == sim::Method::exact) {
        const double miss = analysis::exact_hit_probability(point).miss();
        return {0, std::nullopt, miss, miss * (1.0 - exact_error), std::min(1.0, miss * (1.0 + exact_error))};
    }
    if (method == sim::Method::conditional) {
        const bool few = static_cast<double>(trials) < sim::trials_for_normal_theory(confidence);
        const sim::MeanInterval interval =
            few ? sim::bounded_weight_interval(progress.weighted, sim::ConditionalSampler(point, 0).largest_weight(),
                                               confidence)
                : sim::log_normal_interval(progress.weighted, confidence);
        return {trials, std::nullopt, interval.mean, interval.low, interval.high};
    }
    const auto misses = static_cast<std::int64_t>(progress.progress.stats.misses);
    const analysis::Interval interval =
        analysis::clopper_pearson(static_cast<double>(misses), static_cast<double>(trials), 1.0 - confidence);
    return {trials, misses, interval.value, interval.low, interval.high};
}

std::string miss_definition() {
    return "misses / trials; method conditional: mean of trials weights P(signal score below the K-th "
           "noise score), drawn by importance sampling; exact: the integral, no trials";
}

std::string interval_definition(double confidence) {
    return fmt::format(
        "Clopper-Pearson interval of misses of trials, confidence {}; method conditional: mean times "
        "exp(-+ z standard error / mean), the central limit theorem on the log scale, of fewer than {:.0f} trials "
        "Hoeffding's bound for weights that cannot exceed a known one; exact: its relative error {}",
        shortest(confidence), std::ceil(sim::trials_for_normal_theory(confidence)), exact_error);
}

PointProgress estimate_without_counts(const analysis::RoutingPoint& point, sim::Method method,
                                      const sim::Budget& budget) {
    PointProgress done;
    if (method == sim::Method::exact) {
        done.finished = true;
        done.reason = sim::StopReason::exact;
        return done;
    }
    const sim::ConditionalResult result = sim::simulate_conditional(point, budget, [] { return !interrupted(); });
    done.finished = result.reason != sim::StopReason::interrupted;
    if (done.finished) {  // begun anew after an interruption
        done.reason = result.reason;
        done.weighted = result.sums;
        done.progress.stats.trials = result.sums.trials;
        done.progress.seconds = result.seconds;
    }
    return done;
}

}  // namespace mobalab::experiments
