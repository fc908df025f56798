#include "experiments/probe_statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mobalab::experiments {
namespace {

ClusterCell& operator+=(ClusterCell& a, const ClusterCell& b) {
    a.trials += b.trials;
    a.misses += b.misses;
    a.expected_misses += b.expected_misses;
    a.expected_hits += b.expected_hits;
    return a;
}

// Sets counts.design_effect and counts.df; see combine().
void estimate_design_effect(std::span<const ClusterCell> cells, const ClusterCell& total, analysis::Counts& counts) {
    const auto sets = static_cast<double>(cells.size());
    if (sets < 2 || std::min(total.expected_misses, total.expected_hits) < sets) {
        return;  // independent trials
    }
    const double mean = (total.misses - total.expected_misses) / sets;
    double spread = 0.0;
    for (const ClusterCell& cell : cells) {
        const double residual = cell.misses - cell.expected_misses - mean;
        spread += residual * residual;
    }
    const double binomial = total.expected_misses * total.expected_hits / total.trials;
    counts.design_effect = std::max(1.0, spread * sets / (sets - 1.0) / binomial);
    counts.df = sets - 1.0;
}

}  // namespace

void add(std::span<const ClusterCell> cells, std::span<ClusterCell> sum) {
    for (std::size_t g = 0; g < cells.size(); ++g) {
        sum[g] += cells[g];
    }
}

analysis::Interval ClusteredCount::interval(double alpha) const {
    const double df = counts.df > 0.0 ? counts.df : std::numeric_limits<double>::infinity();
    return analysis::korn_graubard(counts.misses, counts.trials, counts.design_effect, df, alpha);
}

analysis::Agreement ClusteredCount::against_theory() const {
    if (counts.trials == 0.0) {
        return {.p_value = 1.0, .z = 0.0};
    }
    return analysis::compare_with_exact(counts, std::log(expected_misses / counts.trials),
                                        std::log(expected_hits / counts.trials));
}

ClusteredCount combine(std::span<const ClusterCell> cells) {
    ClusterCell total;
    for (const ClusterCell& cell : cells) {
        total += cell;
    }
    ClusteredCount result{.counts = {.misses = total.misses, .trials = total.trials},
                          .expected_misses = total.expected_misses,
                          .expected_hits = total.expected_hits};
    estimate_design_effect(cells, total, result.counts);
    return result;
}

PointCells::PointCells(const ProbeJob& job, const JobCounts& counts,
                       const std::vector<std::vector<ProbeSegment>>& segments, const ProbePlace& place,
                       const MissCurve& curve) {
    const CandidateBuckets buckets = candidate_buckets(job.shape.last_candidates());
    cells_.assign(buckets.size(), std::vector<ClusterCell>(counts.size()));
    for (std::size_t g = 0; g < counts.size(); ++g) {
        const std::size_t first_segment = place.kind * segments[g].size();
        for (std::size_t s = 0; s < segments[g].size(); ++s) {
            const analysis::HitProbability exact = curve.at(segments[g][s].candidates);
            const auto trials = static_cast<double>(counts[g].trials[first_segment + s]);
            cells_[buckets.index_of(segments[g][s].candidates)][g] +=
                {.trials = trials,
                 .misses = 0.0,
                 .expected_misses = trials * std::exp(exact.log_miss),
                 .expected_hits = trials * std::exp(exact.log_hit)};
        }
        for (std::size_t b = 0; b < buckets.size(); ++b) {
            const std::size_t cell = misses_index(job, place.kind, place.topk) + b;
            cells_[b][g].misses = static_cast<double>(counts[g].misses[cell]);
        }
    }
}

std::vector<ClusterCell> PointCells::all() const {
    std::vector<ClusterCell> sum(cells_.front().size());
    for (const std::vector<ClusterCell>& cells : cells_) {
        add(cells, sum);
    }
    return sum;
}

}  // namespace mobalab::experiments
