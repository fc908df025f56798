#include "experiments/probe/kernel_assessment.h"

#include <fmt/format.h>

#include <cmath>
#include <memory>

#include "experiments/base/parallel_for.h"
#include "experiments/probe/probe_sources.h"
#include "experiments/results/column_builder.h"

namespace mobalab::experiments {
namespace {

using analysis::RoutingPoint;

std::int64_t whole(double count) {
    return std::llround(count);
}

// Columns of a count, for rows whose count is count_of(row).
template <typename Row, typename CountOf>
std::vector<Column> count_columns(const std::vector<Row>& rows, double confidence, int threads, CountOf count_of) {
    const double alpha = 1.0 - confidence;
    std::vector<analysis::Interval> intervals(rows.size());
    parallel_for(rows.size(), thread_count(threads),
                 [&](std::size_t i) { intervals[i] = count_of(rows[i]).interval(alpha); });
    const std::string definition =
        fmt::format("{:g} % Korn-Graubard interval, clustered by key set", 100.0 * confidence);
    return {make_column(rows, "kernel_trials", "probes kept (clusters that allow the affinities)",
                        [&](const Row& row) { return whole(count_of(row).counts.trials); }),
            make_column(rows, "kernel_misses", "probes whose needle was not routed",
                        [&](const Row& row) { return whole(count_of(row).counts.misses); }),
            make_column(rows, "kernel_miss", "share of probes that missed, over the probes' numbers of candidates",
                        [&](const Row& row) { return count_of(row).miss(); }),
            make_column(
                intervals, "kernel_miss_low", "lower end of the interval of kernel_miss",
                [](const analysis::Interval& interval) { return interval.low; }, definition),
            make_column(
                intervals, "kernel_miss_high", "upper end of the interval of kernel_miss",
                [](const analysis::Interval& interval) { return interval.high; }, definition),
            make_column(rows, "kernel_expected_miss", "exact miss probability, averaged over the probes' candidates",
                        [&](const Row& row) { return count_of(row).expected_miss(); })};
}

}  // namespace

KernelAssessment assess_kernel(const std::vector<RoutingPoint>& points, const ProbePlan& plan,
                               const std::vector<JobCounts>& counts, int threads) {
    const auto curves = std::make_shared<analysis::MissCurves>();
    std::vector<std::unique_ptr<const ProbeSource>> sources;
    std::vector<std::vector<std::vector<ProbeSegment>>> segments(plan.jobs.size());
    for (std::size_t j = 0; j < segments.size(); ++j) {
        sources.push_back(make_probe_source(plan.jobs[j], curves));
        for (std::int64_t g = 0; g < sources[j]->key_sets(); ++g) {
            segments[j].push_back(segments_of(sources[j]->chunks(g), sources[j]->shape().block_size));
        }
    }

    KernelAssessment result;
    result.points.resize(points.size());
    std::vector<std::vector<ClusterCell>> cells(points.size());
    std::vector<ProbeGroups> groups(points.size());
    parallel_for(points.size(), threads, [&](std::size_t i) {
        const ProbePlace& place = plan.places[i];
        const ProbeJob& job = plan.jobs[place.job];
        const PointCells point(*sources[place.job], counts[place.job], segments[place.job], place.kind, place.topk);
        const bool has_theory = point.has_theory();
        cells[i] = point.all();
        groups[i] = point.all_groups();
        const auto prior = [&](const ClusterCell& total, std::int64_t fewest, std::int64_t most) {
            return job.text || !job.has_law
                       ? DesignEffectPrior{}
                       : design_effect_prior(job.shape.head_dim, fewest, most, points[i].routed(),
                                             total.trials / static_cast<double>(job.budget.key_sets));
        };
        const std::int64_t last = job.shape.last_candidates();
        KernelAssessment::Point& assessed = result.points[i];
        assessed.count = combine(cells[i], groups[i], prior(sum_of(cells[i]), last, last));
        assessed.count.has_theory = has_theory;
        assessed.key_sets = job.budget.key_sets;
        const CandidateBuckets buckets = candidate_buckets(last);
        for (std::size_t b = 0; b < buckets.size(); ++b) {
            const ClusterCell total = sum_of(point.bucket(b));
            assessed.buckets.push_back(
                {buckets.low[b], buckets.high[b],
                 combine(point.bucket(b), point.groups(b), prior(total, buckets.low[b], buckets.high[b]))});
            assessed.buckets.back().count.has_theory = has_theory;
        }
    });

    const auto known = [&](std::size_t i) { return result.points[i].count.has_theory; };
    if (points.size() == 1) {
        result.pooled = result.points.front().count;
        return result;
    }
    // Points share key sets and probes, so that only the spread between sets knows the variance.
    std::vector<ClusterCell> pooled;
    ProbeGroups pooled_groups;
    for (const ProbeGroups& of_point : groups) {  // empty where nothing is known
        pooled_groups.add(of_point);
    }
    for (std::size_t j = 0; j < plan.jobs.size(); ++j) {
        std::vector<ClusterCell> of_job(static_cast<std::size_t>(plan.jobs[j].budget.key_sets));
        for (std::size_t i = 0; i < points.size(); ++i) {
            if (plan.places[i].job == j && known(i)) {
                add(cells[i], of_job);
            }
        }
        if (sum_of(of_job).trials > 0.0) {
            pooled.insert(pooled.end(), of_job.begin(), of_job.end());
        }
    }
    result.pooled = combine(pooled, pooled_groups);
    result.pooled.has_theory = !pooled.empty();
    return result;
}

std::vector<Column> kernel_columns(const KernelAssessment& kernel, double confidence, int threads) {
    using Point = KernelAssessment::Point;
    std::vector<Column> columns =
        count_columns(kernel.points, confidence, threads, [](const Point& point) { return point.count; });
    columns.push_back(make_column(kernel.points, "kernel_key_sets", "independent key sets",
                                  [](const Point& point) { return point.key_sets; }));
    columns.push_back(make_column(kernel.points, "kernel_design_effect",
                                  "variance of kernel_misses over its binomial value, at least 1",
                                  [](const Point& point) { return point.count.counts.design_effect; }));
    return columns;
}

Table by_candidates_table(const KernelAssessment& kernel, double confidence, int threads) {
    struct Row {
        std::int64_t point;
        KernelAssessment::Bucket bucket;
    };
    std::vector<Row> rows;
    for (std::size_t i = 0; i < kernel.points.size(); ++i) {
        for (const KernelAssessment::Bucket& bucket : kernel.points[i].buckets) {
            if (bucket.count.counts.trials > 0) {
                rows.push_back({static_cast<std::int64_t>(i), bucket});
            }
        }
    }
    Table table{.name = "validate_by_candidates", .dimension = "row", .columns = {}};
    table.columns = {make_column(rows, "point", "row of the table of points", [](const Row& row) { return row.point; }),
                     make_column(rows, "candidates_low", "fewest past blocks that compete",
                                 [](const Row& row) { return row.bucket.candidates_low; }),
                     make_column(rows, "candidates_high", "most past blocks that compete",
                                 [](const Row& row) { return row.bucket.candidates_high; })};
    for (Column& column : count_columns(rows, confidence, threads, [](const Row& row) { return row.bucket.count; })) {
        table.columns.push_back(std::move(column));
    }
    return table;
}

}  // namespace mobalab::experiments
