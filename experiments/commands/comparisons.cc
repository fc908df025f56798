#include "experiments/commands/comparisons.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <tuple>

#include "analysis/hit_probability.h"
#include "analysis/hit_problem.h"
#include "analysis/normal_law.h"
#include "experiments/base/parallel_for.h"
#include "experiments/results/column_builder.h"

namespace mobalab::experiments {
namespace {

using analysis::Counts;
using analysis::Model;
using analysis::RoutingPoint;

/// Whether the exact probability of the question is known under this model. Keys along a text are no other model's.
bool known(RoutingPoint question, Model model) {
    if (analysis::definition_of(question.model).text_keys) {
        return false;
    }
    question.model = model;
    return can_be_simulated(question) && analysis::has_exact_probability(question);
}

Counts counts_of(const SimulatedMisses& simulated) {
    return {.misses = static_cast<double>(simulated.misses), .trials = static_cast<double>(simulated.trials)};
}

double miss_of(const Counts& counts) {
    return counts.misses / counts.trials;
}

Comparison against_exact(std::int64_t point, std::string kind, const SimulatedMisses& simulated, RoutingPoint question,
                         Model model) {
    question.model = model;
    const analysis::HitProbability exact = analysis::exact_hit_probability(question);
    const Counts counts = counts_of(simulated);
    return {.point = point,
            .kind = std::move(kind),
            .expected_miss = exact.miss(),
            .observed_miss = miss_of(counts),
            .agreement = analysis::compare_with_exact(counts, exact.log_miss, exact.log_hit),
            .standard_error = std::sqrt(exact.miss() * exact.hit() / counts.trials)};
}

double standard_error(const ClusteredCount& count) {
    return std::sqrt(count.variance * count.test_design_effect) / count.counts.trials;
}

Comparison against_theory(std::int64_t point, std::string kind, const ClusteredCount& count) {
    return {.point = point,
            .kind = std::move(kind),
            .expected_miss = count.expected_miss(),
            .observed_miss = count.miss(),
            .agreement = count.against_theory(),
            .standard_error = standard_error(count)};
}

/// Of a simulated miss probability: the exact one's where it is known.
double standard_error(const SimulatedMisses& simulated, RoutingPoint question) {
    const Counts counts = counts_of(simulated);
    if (!known(question, Model::sphere)) {
        return std::sqrt(miss_of(counts) * (1.0 - miss_of(counts)) / counts.trials);
    }
    question.model = Model::sphere;
    const analysis::HitProbability exact = analysis::exact_hit_probability(question);
    return std::sqrt(exact.miss() * exact.hit() / counts.trials);
}

Comparison of_rule(std::int64_t point, std::string kind, const RuleCheck& check) {
    const bool broken = check.violations > 0;
    return {.point = point,
            .kind = std::move(kind),
            .expected_miss = 0.0,
            .observed_miss = static_cast<double>(check.violations) / static_cast<double>(check.rows),
            .agreement = {.p_value = broken ? 0.0 : 1.0, .z = broken ? std::numeric_limits<double>::infinity() : 0.0},
            .standard_error = std::numeric_limits<double>::quiet_NaN()};
}

// Trials of the points that share them: all that differ in topk alone (simulate_points()).
struct SharedTrials {
    double trials = 0.0;
    std::vector<double> misses;  // exact probabilities
    // A trial missed at one topk is missed at every smaller one: E of a product is the smaller of the two.
    double variance() const {
        double sum = 0.0;
        for (const double p : misses) {
            for (const double q : misses) {
                sum += std::min(p, q) * (1.0 - std::max(p, q));
            }
        }
        return trials * sum;
    }
};

// All points of one model together that theory knows: the Poisson binomial law of all their trials, with the exact
// design effect that shared trials make. A standard error below zero where there are none.
Comparison all_points_against_exact(const ValidationEvidence& evidence, const std::string& kind,
                                    const std::vector<SimulatedMisses>& simulated, Model model) {
    std::map<std::string, SharedTrials> shared;
    ProbeGroups groups;
    ClusterCell total;
    for (std::size_t i = 0; i < evidence.points.size(); ++i) {
        RoutingPoint question = evidence.points[i];
        question.model = model;
        if (!known(question, model)) {
            continue;
        }
        const analysis::HitProbability exact = analysis::exact_hit_probability(question);
        const Counts counts = counts_of(simulated[i]);
        groups.add(counts.trials, exact);
        total.trials += counts.trials;
        total.misses += counts.misses;
        total.expected_misses += counts.trials * exact.miss();
        total.variance += counts.trials * exact.miss() * exact.hit();
        question.topk = 1;
        SharedTrials& trials = shared[analysis::canonical_text(question)];
        trials.trials = counts.trials;
        trials.misses.push_back(exact.miss());
    }
    if (shared.empty()) {
        return {.point = -1,
                .kind = kind,
                .expected_miss = 0.0,
                .observed_miss = 0.0,
                .agreement = {},
                .standard_error = -1.0};
    }
    double variance = 0.0;
    for (const auto& [question, trials] : shared) {
        variance += trials.variance();
    }
    const double design_effect = total.variance > 0.0 ? std::max(1.0, variance / total.variance) : 1.0;
    const Counts counts{.misses = total.misses, .trials = total.trials, .design_effect = design_effect};
    return {.point = -1,
            .kind = kind,
            .expected_miss = total.expected_misses / total.trials,
            .observed_miss = total.misses / total.trials,
            .agreement = analysis::compare_with_exact(counts, groups.miss_trials()),
            .standard_error = std::sqrt(variance) / total.trials};
}

void add_comparisons_of_point(const ValidationEvidence& evidence, std::size_t i, std::vector<Comparison>& all) {
    const auto point = static_cast<std::int64_t>(i);
    const RoutingPoint& question = evidence.points[i];
    if (known(question, Model::sphere)) {
        all.push_back(against_exact(point, "simulate-theory", evidence.own[i], question, Model::sphere));
    }
    if (known(question, Model::gaussian)) {
        all.push_back(
            against_exact(point, "gaussian-simulate-theory", evidence.gaussian[i], question, Model::gaussian));
        all.push_back(against_exact(point, "gaussian-fixed-simulate-theory", evidence.gaussian_fixed[i], question,
                                    Model::gaussian_fixed));
    }
    const KernelAssessment::Point& kernel = evidence.kernel.points[i];
    if (kernel.count.has_theory) {
        all.push_back(against_theory(point, "kernel-theory", kernel.count));
    }
    for (const KernelAssessment::Bucket& bucket : kernel.buckets) {
        if (bucket.count.has_theory && bucket.count.counts.trials > 0) {
            all.push_back(against_theory(point, "kernel-theory-by-candidates", bucket.count));
        }
    }
    const ClusteredCount& last = kernel.buckets.back().count;
    const Counts last_block = last.test_counts();
    const Counts simulated = counts_of(evidence.own[i]);
    all.push_back({.point = point,
                   .kind = "kernel-simulate",
                   .expected_miss = miss_of(simulated),
                   .observed_miss = miss_of(last_block),
                   .agreement = analysis::compare_counts(last_block, simulated),
                   .standard_error = std::hypot(standard_error(last), standard_error(evidence.own[i], question))});
}

// Row of the first point of each job: rules are checked once a shape.
std::vector<std::int64_t> first_points(const ProbePlan& plan) {
    std::vector<std::int64_t> first(plan.jobs.size());
    for (std::size_t i = plan.places.size(); i-- > 0;) {
        first[plan.places[i].job] = static_cast<std::int64_t>(i);
    }
    return first;
}

}  // namespace

std::vector<Comparison> compare(const ValidationEvidence& evidence, int threads) {
    std::vector<Comparison> all;
    // Rules first: a report that is sorted by p-value then names the broken rule before its many consequences.
    const std::vector<std::int64_t> points = first_points(evidence.plan);
    for (std::size_t j = 0; j < points.size(); ++j) {
        if (evidence.tie_rule[j].rows > 0) {
            all.push_back(of_rule(points[j], "tie-rule", evidence.tie_rule[j]));
        }
        all.push_back(of_rule(points[j], "candidate-rule", evidence.candidate_rule[j]));
    }
    if (evidence.kernel.pooled.has_theory) {
        all.push_back(against_theory(-1, "kernel-theory", evidence.kernel.pooled));
    }
    if (evidence.points.size() > 1) {
        const std::vector<std::tuple<std::string, const std::vector<SimulatedMisses>*, Model>> simulations = {
            {"simulate-theory", &evidence.own, Model::sphere},
            {"gaussian-simulate-theory", &evidence.gaussian, Model::gaussian},
            {"gaussian-fixed-simulate-theory", &evidence.gaussian_fixed, Model::gaussian_fixed}};
        std::vector<Comparison> together(simulations.size());
        parallel_for(simulations.size(), thread_count(threads), [&](std::size_t i) {
            const auto& [kind, simulated, model] = simulations[i];
            together[i] = all_points_against_exact(evidence, kind, *simulated, model);
        });
        std::copy_if(together.begin(), together.end(), std::back_inserter(all),
                     [](const Comparison& comparison) { return comparison.standard_error >= 0.0; });
    }
    std::vector<std::vector<Comparison>> of_points(evidence.points.size());
    parallel_for(of_points.size(), thread_count(threads),
                 [&](std::size_t i) { add_comparisons_of_point(evidence, i, of_points[i]); });
    for (const std::vector<Comparison>& of_point : of_points) {
        all.insert(all.end(), of_point.begin(), of_point.end());
    }

    std::vector<double> p_values;
    p_values.reserve(all.size());
    for (const Comparison& comparison : all) {
        p_values.push_back(comparison.agreement.p_value);
    }
    const std::vector<double> adjusted = analysis::holm_adjust(p_values);
    for (std::size_t i = 0; i < all.size(); ++i) {
        all[i].adjusted_p = adjusted[i];
    }
    return all;
}

double detectable_difference(double standard_error, std::size_t comparisons, double family_alpha) {
    constexpr double power = 0.9;
    const double level = family_alpha / static_cast<double>(comparisons);
    return standard_error *
           (analysis::normal_upper_quantile(0.5 * level) + analysis::normal_upper_quantile(1.0 - power));
}

Table comparisons_table(const std::vector<Comparison>& comparisons, double family_alpha) {
    Table table{.name = "validate_comparisons", .dimension = "comparison", .columns = {}};
    table.attributes["family_alpha"] = family_alpha;
    table.columns = {
        make_column(comparisons, "point", "row of the table validate; -1: all points together",
                    [](const Comparison& row) { return row.point; }),
        make_column(comparisons, "kind", "which two sides", [](const Comparison& row) { return row.kind; }),
        make_column(comparisons, "expected_miss", "miss probability of theory, or of the simulation",
                    [](const Comparison& row) { return row.expected_miss; }),
        make_column(comparisons, "observed_miss", "miss probability of the side examined",
                    [](const Comparison& row) { return row.observed_miss; }),
        make_column(comparisons, "z", "signed normal deviate of the p-value; positive: more misses than expected",
                    [](const Comparison& row) { return row.agreement.z; }),
        make_column(comparisons, "p_value", "two-sided p-value of this comparison alone",
                    [](const Comparison& row) { return row.agreement.p_value; }),
        make_column(comparisons, "adjusted_p", "Holm's adjustment over all comparisons; disagrees below family_alpha",
                    [](const Comparison& row) { return row.adjusted_p; }),
        make_column(
            comparisons, "detectable_difference", "difference of miss probability found with probability 0.9",
            [&](const Comparison& row) {
                return detectable_difference(row.standard_error, comparisons.size(), family_alpha);
            },
            "standard error of the difference times (z of family_alpha / comparisons, two-sided, + z of 0.9)")};
    return table;
}

}  // namespace mobalab::experiments
