#pragma once

#include <cstdint>
#include <vector>

#include "analysis/routing_point.h"
#include "experiments/probe/probe_run.h"
#include "experiments/probe/probe_statistics.h"
#include "experiments/results/results_file.h"

namespace mobalab::experiments {

/// Probe counts of points beside their exact expectation.
struct KernelAssessment {
    struct Bucket {
        std::int64_t candidates_low;
        std::int64_t candidates_high;
        ClusteredCount count;
    };
    struct Point {
        ClusteredCount count;
        std::vector<Bucket> buckets;  ///< the last one holds exactly the point's own number of candidates
        std::int64_t key_sets;
    };
    std::vector<Point> points;
    ClusteredCount pooled;  ///< all points that theory knows together; a cluster is one key set of one shape and scorer
};

/// `points` are those `plan` was made of, `counts` what run_probes() gave for plan.jobs.
KernelAssessment assess_kernel(const std::vector<analysis::RoutingPoint>& points, const ProbePlan& plan,
                               const std::vector<JobCounts>& counts, int threads);

/// One row a point: kernel_trials, kernel_misses, kernel_miss, kernel_miss_low, kernel_miss_high, kernel_expected_miss,
/// kernel_key_sets, kernel_design_effect.
std::vector<Column> kernel_columns(const KernelAssessment& kernel, double confidence, int threads);

/// Table "validate_by_candidates", one row a point and range of candidates that has probes: point, candidates_low,
/// candidates_high, kernel_trials, kernel_misses, kernel_miss, kernel_miss_low, kernel_miss_high, kernel_expected_miss.
Table by_candidates_table(const KernelAssessment& kernel, double confidence, int threads);

}  // namespace mobalab::experiments
