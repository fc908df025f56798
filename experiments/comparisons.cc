#include "experiments/comparisons.h"

#include <cmath>
#include <limits>

#include "analysis/hit_probability.h"
#include "experiments/column_builder.h"
#include "experiments/parallel_for.h"

namespace mobalab::experiments {
namespace {

using analysis::Counts;
using analysis::Model;
using analysis::RoutingPoint;

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
            .agreement = analysis::compare_with_exact(counts, exact.log_miss, exact.log_hit)};
}

Comparison against_theory(std::int64_t point, std::string kind, const ClusteredCount& count) {
    return {.point = point,
            .kind = std::move(kind),
            .expected_miss = count.expected_miss(),
            .observed_miss = count.miss(),
            .agreement = count.against_theory()};
}

Comparison of_rule(std::int64_t point, std::string kind, const RuleCheck& check) {
    const bool broken = check.violations > 0;
    return {.point = point,
            .kind = std::move(kind),
            .expected_miss = 0.0,
            .observed_miss = static_cast<double>(check.violations) / static_cast<double>(check.rows),
            .agreement = {.p_value = broken ? 0.0 : 1.0, .z = broken ? std::numeric_limits<double>::infinity() : 0.0}};
}

void add_comparisons_of_point(const Evidence& evidence, std::size_t i, std::vector<Comparison>& all) {
    const auto point = static_cast<std::int64_t>(i);
    const RoutingPoint& question = evidence.points[i];
    all.push_back(against_exact(point, "simulate-theory", evidence.sphere[i], question, Model::sphere));
    all.push_back(against_exact(point, "gaussian-simulate-theory", evidence.gaussian[i], question, Model::gaussian));
    all.push_back(against_exact(point, "gaussian-fixed-simulate-theory", evidence.gaussian_fixed[i], question,
                                Model::gaussian_fixed));
    const KernelAssessment::Point& kernel = evidence.kernel.points[i];
    all.push_back(against_theory(point, "kernel-theory", kernel.count));
    for (const KernelAssessment::Bucket& bucket : kernel.buckets) {
        if (bucket.count.counts.trials > 0) {
            all.push_back(against_theory(point, "kernel-theory-by-candidates", bucket.count));
        }
    }
    const Counts& last_block = kernel.buckets.back().count.counts;
    const Counts simulated = counts_of(evidence.sphere[i]);
    all.push_back({.point = point,
                   .kind = "kernel-simulate",
                   .expected_miss = miss_of(simulated),
                   .observed_miss = miss_of(last_block),
                   .agreement = analysis::compare_counts(last_block, simulated)});
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

std::vector<Comparison> compare(const Evidence& evidence) {
    std::vector<Comparison> all;
    // Rules first: a report that is sorted by p-value then names the broken rule before its many consequences.
    const std::vector<std::int64_t> points = first_points(evidence.plan);
    for (std::size_t j = 0; j < points.size(); ++j) {
        all.push_back(of_rule(points[j], "tie-rule", evidence.tie_rule[j]));
        all.push_back(of_rule(points[j], "candidate-rule", evidence.candidate_rule[j]));
    }
    all.push_back(against_theory(-1, "kernel-theory", evidence.kernel.pooled));
    std::vector<std::vector<Comparison>> of_points(evidence.points.size());
    parallel_for(of_points.size(), thread_count(0),
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
                    [](const Comparison& row) { return row.adjusted_p; })};
    return table;
}

}  // namespace mobalab::experiments
