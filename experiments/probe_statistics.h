#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "analysis/agreement.h"
#include "analysis/binomial_interval.h"
#include "experiments/miss_curve.h"
#include "experiments/probe_run.h"

namespace mobalab::experiments {

/// Share of one key set in a count.
struct ClusterCell {
    double trials = 0.0;
    double misses = 0.0;
    double expected_misses = 0.0;  ///< exact, summed over the candidates of the probes
    double expected_hits = 0.0;
};

/// sum[g] += cells[g].
void add(std::span<const ClusterCell> cells, std::span<ClusterCell> sum);

/// A count of clustered trials beside its exact expectation.
struct ClusteredCount {
    analysis::Counts counts;  ///< with design effect and degrees of freedom
    double expected_misses = 0.0;
    double expected_hits = 0.0;

    double miss() const { return counts.misses / counts.trials; }
    double expected_miss() const { return expected_misses / counts.trials; }
    analysis::Interval interval(double alpha) const;

    /// Against the exact expectation. The trials do not all have the same miss probability (their candidates differ);
    /// a binomial at the mean probability has the wider spread of the two (Hoeffding 1956), so the p-value is
    /// conservative.
    analysis::Agreement against_theory() const;
};

/// Adds up the cells of all key sets.
///
/// Probes of one key set share its centroids, so their misses are correlated. The design effect is estimated from the
/// spread of (misses - expected) between key sets over its binomial value, floored at 1, with (key sets - 1) degrees of
/// freedom. With fewer than one expected miss (or hit) a key set the trials count as independent: misses that rare
/// cannot pile up, and the estimate would be noise (one single miss where 0.01 were expected would excuse itself).
ClusteredCount combine(std::span<const ClusterCell> cells);

/// The cells of one point of a plan.
class PointCells {
public:
    /// `segments` are those of every key set of the job, `curve` is the curve of the point.
    PointCells(const ProbeJob& job, const JobCounts& counts, const std::vector<std::vector<ProbeSegment>>& segments,
               const ProbePlace& place, const MissCurve& curve);

    const std::vector<ClusterCell>& bucket(std::size_t index) const { return cells_[index]; }  ///< one cell a key set
    std::size_t buckets() const { return cells_.size(); }
    std::vector<ClusterCell> all() const;  ///< buckets added up

private:
    std::vector<std::vector<ClusterCell>> cells_;  // [bucket][key set]
};

}  // namespace mobalab::experiments
