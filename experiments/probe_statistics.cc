#include "experiments/probe_statistics.h"

#include <algorithm>
#include <cmath>

namespace mobalab::experiments {
namespace {

ClusterCell& operator+=(ClusterCell& a, const ClusterCell& b) {
    a.trials += b.trials;
    a.misses += b.misses;
    a.expected_misses += b.expected_misses;
    a.expected_hits += b.expected_hits;
    return a;
}

double design_effect(std::span<const ClusterCell> cells, const ClusterCell& total) {
    const auto sets = static_cast<double>(cells.size());
    if (sets < 2 || std::min(total.expected_misses, total.expected_hits) < sets) {
        return 1.0;
    }
    const double mean = (total.misses - total.expected_misses) / sets;
    double spread = 0.0;
    for (const ClusterCell& cell : cells) {
        const double residual = cell.misses - cell.expected_misses - mean;
        spread += residual * residual;
    }
    const double binomial = total.expected_misses * total.expected_hits / total.trials;
    return std::max(1.0, spread * sets / (sets - 1.0) / binomial);
}

}  // namespace

void add(std::span<const ClusterCell> cells, std::span<ClusterCell> sum) {
    for (std::size_t g = 0; g < cells.size(); ++g) {
        sum[g] += cells[g];
    }
}

analysis::Interval ClusteredCount::interval(double alpha) const {
    return analysis::korn_graubard(counts.misses, counts.trials, counts.design_effect, counts.df, alpha);
}

analysis::Agreement ClusteredCount::against_theory() const {
    return analysis::compare_with_exact(counts, std::log(expected_misses / counts.trials),
                                        std::log(expected_hits / counts.trials));
}

ClusteredCount combine(std::span<const ClusterCell> cells) {
    ClusterCell total;
    for (const ClusterCell& cell : cells) {
        total += cell;
    }
    return {.counts = {.misses = total.misses,
                       .trials = total.trials,
                       .design_effect = design_effect(cells, total),
                       .df = static_cast<double>(cells.size()) - 1.0},
            .expected_misses = total.expected_misses,
            .expected_hits = total.expected_hits};
}

std::vector<std::vector<CandidateRows>> candidate_rows(const ProbeJob& job) {
    std::vector<std::vector<CandidateRows>> result(static_cast<std::size_t>(job.budget.key_sets));
    for (std::size_t g = 0; g < result.size(); ++g) {
        for (const QueryChunk& chunk : chunks_of_key_set(job, static_cast<std::int64_t>(g))) {
            std::int64_t row = chunk.start;
            while (row < chunk.start + chunk.rows) {  // block by block: queries of one block have the same candidates
                const std::int64_t candidates = row / job.shape.block_size;
                const std::int64_t end = std::min((candidates + 1) * job.shape.block_size, chunk.start + chunk.rows);
                result[g].push_back({candidates, end - row});
                row = end;
            }
        }
    }
    return result;
}

PointCells::PointCells(const ProbeJob& job, const JobCounts& counts,
                       const std::vector<std::vector<CandidateRows>>& rows, const ProbePlace& place,
                       const MissCurve& curve) {
    const CandidateBuckets buckets = candidate_buckets(job.shape.last_candidates());
    cells_.assign(buckets.size(), std::vector<ClusterCell>(counts.size()));
    const std::size_t first = misses_index(job, place.kind, place.topk);
    for (std::size_t g = 0; g < counts.size(); ++g) {
        for (const CandidateRows& at : rows[g]) {
            const analysis::HitProbability exact = curve.at(at.candidates);
            const auto trials = static_cast<double>(at.rows);
            cells_[buckets.index_of(at.candidates)][g] += {.trials = trials,
                                                           .misses = 0.0,
                                                           .expected_misses = trials * std::exp(exact.log_miss),
                                                           .expected_hits = trials * std::exp(exact.log_hit)};
        }
        for (std::size_t b = 0; b < buckets.size(); ++b) {
            cells_[b][g].misses = static_cast<double>(counts[g].misses[first + b]);
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
