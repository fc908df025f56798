#include "experiments/probe/probe_statistics.h"

#include <algorithm>
#include <boost/math/constants/constants.hpp>
#include <cmath>
#include <limits>

#include "analysis/normal_law.h"

namespace mobalab::experiments {
namespace {

ClusterCell& operator+=(ClusterCell& a, const ClusterCell& b) {
    a.trials += b.trials;
    a.misses += b.misses;
    a.expected_misses += b.expected_misses;
    a.expected_hits += b.expected_hits;
    a.variance += b.variance;
    return a;
}

bool rare(const ClusterCell& total, double sets) {
    return std::min(total.expected_misses, total.expected_hits) < sets;
}

// Variance of the misses of all sets, from the spread of (misses - expected) between them.
double spread_between(std::span<const ClusterCell> cells, const ClusterCell& total) {
    const auto sets = static_cast<double>(cells.size());
    const double mean = (total.misses - total.expected_misses) / sets;
    double spread = 0.0;
    for (const ClusterCell& cell : cells) {
        const double residual = cell.misses - cell.expected_misses - mean;
        spread += residual * residual;
    }
    return spread * sets / (sets - 1.0);
}

// See combine().
void estimate_design_effects(std::span<const ClusterCell> cells, const ClusterCell& total,
                             const DesignEffectPrior& prior, ClusteredCount& count) {
    const auto sets = static_cast<double>(cells.size());
    if (sets < 2) {
        count.counts.design_effect = prior.value;
        count.test_design_effect = rare(total, sets) ? 1.0 : prior.value;
        return;
    }
    const double df = sets - 1.0;
    count.counts.df = df;
    if (rare(total, sets) || !(total.variance > 0.0)) {
        return;
    }
    const double spread = spread_between(cells, total);
    const double binomial = total.expected_misses * total.expected_hits / total.trials;
    count.counts.design_effect = std::max(1.0, spread / binomial);
    count.test_df = prior.df + df;
    count.test_design_effect = std::max(1.0, (prior.df * prior.value + df * spread / total.variance) / count.test_df);
}

}  // namespace

void add(std::span<const ClusterCell> cells, std::span<ClusterCell> sum) {
    for (std::size_t g = 0; g < cells.size(); ++g) {
        sum[g] += cells[g];
    }
}

ClusterCell sum_of(std::span<const ClusterCell> cells) {
    ClusterCell total;
    for (const ClusterCell& cell : cells) {
        total += cell;
    }
    return total;
}

analysis::Interval ClusteredCount::interval(double alpha) const {
    const double df = counts.df > 0.0 ? counts.df : std::numeric_limits<double>::infinity();
    return analysis::korn_graubard(counts.misses, counts.trials, counts.design_effect, df, alpha);
}

analysis::Agreement ClusteredCount::against_theory() const {
    if (counts.trials == 0.0) {
        return {.p_value = 1.0, .z = 0.0};
    }
    return analysis::compare_with_exact(test_counts(), exact);
}

analysis::Counts ClusteredCount::test_counts() const {
    return {.misses = counts.misses, .trials = counts.trials, .design_effect = test_design_effect, .df = test_df};
}

DesignEffectPrior design_effect_prior(std::int64_t head_dim, std::int64_t fewest, std::int64_t most,
                                      std::int64_t routed, double probes_a_set) {
    constexpr double df = 64.0;
    if (routed < 1 || routed >= most) {
        return {.value = 1.0, .df = df};  // every probe misses, or none
    }
    const double t = analysis::normal_upper_quantile(static_cast<double>(routed) / static_cast<double>(most));
    const double freedom = static_cast<double>(fewest + 1) * static_cast<double>(head_dim);
    return {.value = 1.0 + probes_a_set / freedom * 2.0 * t * t * boost::math::constants::one_div_pi<double>(),
            .df = df};
}

void ProbeGroups::add(double trials, const analysis::HitProbability& exact) {
    if (trials == 0.0) {
        return;
    }
    constexpr double steps = 16.0;
    constexpr double certain = 1e4;  // log-odds of what never or always happens
    const double log_odds = std::clamp(exact.log_miss - exact.log_hit, -certain, certain);
    ProbeGroup& group = groups_[std::llround(steps * log_odds)];
    group.trials += trials;
    group.expected_misses += trials * std::exp(exact.log_miss);
    group.expected_hits += trials * std::exp(exact.log_hit);
}

void ProbeGroups::add(const ProbeGroups& other) {
    for (const auto& [place, group] : other.groups_) {
        ProbeGroup& sum = groups_[place];
        sum.trials += group.trials;
        sum.expected_misses += group.expected_misses;
        sum.expected_hits += group.expected_hits;
    }
}

std::vector<analysis::BernoulliTrials> ProbeGroups::miss_trials() const {
    std::vector<analysis::BernoulliTrials> result;
    for (const auto& [place, group] : groups_) {
        // The smaller of the two has all its digits.
        const double miss = group.expected_misses / group.trials;
        const double hit = group.expected_hits / group.trials;
        result.push_back({group.trials, miss < hit ? std::log(miss) : std::log1p(-hit),
                          miss < hit ? std::log1p(-miss) : std::log(hit)});
    }
    return result;
}

ClusteredCount combine(std::span<const ClusterCell> cells, const ProbeGroups& groups, const DesignEffectPrior& prior) {
    const ClusterCell total = sum_of(cells);
    ClusteredCount result{.counts = {.misses = total.misses, .trials = total.trials},
                          .expected_misses = total.expected_misses,
                          .expected_hits = total.expected_hits,
                          .variance = total.variance,
                          .exact = groups.miss_trials()};
    estimate_design_effects(cells, total, prior, result);
    return result;
}

PointCells::PointCells(const ProbeSource& source, const JobCounts& counts,
                       const std::vector<std::vector<ProbeSegment>>& segments, std::size_t kind, std::size_t topk) {
    const CandidateBuckets buckets = candidate_buckets(source.shape().last_candidates());
    cells_.assign(buckets.size(), std::vector<ClusterCell>(counts.size()));
    groups_.resize(buckets.size());
    for (std::size_t g = 0; g < counts.size(); ++g) {
        const std::size_t first_segment = kind * segments[g].size();
        for (std::size_t s = 0; s < segments[g].size(); ++s) {
            const auto trials = static_cast<double>(counts[g].trials[first_segment + s]);
            const std::size_t bucket = buckets.index_of(segments[g][s].candidates);
            const auto exact = source.expectation(kind, topk, segments[g][s].candidates);
            if (!exact) {
                has_theory_ = false;
                cells_[bucket][g].trials += trials;
                continue;
            }
            const double miss = std::exp(exact->log_miss);
            const double hit = std::exp(exact->log_hit);
            cells_[bucket][g] += {.trials = trials,
                                  .misses = 0.0,
                                  .expected_misses = trials * miss,
                                  .expected_hits = trials * hit,
                                  .variance = trials * miss * hit};
            groups_[bucket].add(trials, *exact);
        }
        for (std::size_t b = 0; b < buckets.size(); ++b) {
            const std::size_t cell = misses_index(source, kind, topk) + b;
            cells_[b][g].misses = static_cast<double>(counts[g].misses[cell]);
        }
    }
    if (!has_theory_) {
        expect_the_observed();
    }
}

void PointCells::expect_the_observed() {
    for (std::vector<ClusterCell>& cells : cells_) {
        const ClusterCell total = sum_of(cells);
        const double miss = total.trials > 0.0 ? total.misses / total.trials : 0.0;
        for (ClusterCell& cell : cells) {
            cell.expected_misses = cell.trials * miss;
            cell.expected_hits = cell.trials * (1.0 - miss);
            cell.variance = cell.trials * miss * (1.0 - miss);
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

ProbeGroups PointCells::all_groups() const {
    ProbeGroups sum;
    for (const ProbeGroups& groups : groups_) {
        sum.add(groups);
    }
    return sum;
}

}  // namespace mobalab::experiments
