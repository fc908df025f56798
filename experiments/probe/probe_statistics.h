#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <vector>

#include "analysis/agreement.h"
#include "analysis/binomial_interval.h"
#include "experiments/probe/probe_run.h"

namespace mobalab::experiments {

/// Share of one key set in a count.
struct ClusterCell {
    double trials = 0.0;
    double misses = 0.0;
    double expected_misses = 0.0;  ///< exact, summed over the candidates of the probes
    double expected_hits = 0.0;
    double variance = 0.0;  ///< of the misses if probes did not share keys: the sum of p (1 - p), each at its own p
};

/// What is known of the design effect of probes that share keys (variance of their misses over ClusterCell::variance)
/// before any are counted, and how many degrees of freedom of an estimate that is worth.
///
/// A set of n blocks has n d degrees of freedom, and the second moment of its scores along a probe's direction differs
/// from set to set as if that were all there is: relative variance 2 / (n d). The threshold t = Phi^-1(1 - K/c) of the
/// noise follows its root, so that P probes of one set have a design effect of about 1 + P / (n d) t^2 / pi
/// (misses near 1/2, where it is largest; pairs of probes at an early position share fewer blocks, which about doubles
/// it). Twice that is taken, as a bound more than a guess; measured: 1.53 where it says 1.55 (d 128, B 64, c 31, k 2,
/// P 1024), 1.16 where it says 1.41 (d 64, B 32, c 127, k 8, P 2048), 1.07 where it says 1.25 (d 32, B 16, c 63, k 8).
struct DesignEffectPrior {
    double value = 1.0;
    double df = 0.0;
};
///
/// Probes have from `fewest` to `most` candidates; of a whole key set both are the last query's.
DesignEffectPrior design_effect_prior(std::int64_t head_dim, std::int64_t fewest, std::int64_t most,
                                      std::int64_t routed, double probes_a_set);

/// sum[g] += cells[g].
void add(std::span<const ClusterCell> cells, std::span<ClusterCell> sum);

/// All key sets together.
ClusterCell sum_of(std::span<const ClusterCell> cells);

/// Probes of nearly the same exact miss probability.
struct ProbeGroup {
    double trials = 0.0;
    double expected_misses = 0.0;
    double expected_hits = 0.0;
};

/// Groups by the log-odds of the miss probability in steps of 1/16, inside which the probabilities are averaged: the
/// mean of the sum stays exact and its variance to 1e-4.
class ProbeGroups {
public:
    void add(double trials, const analysis::HitProbability& exact);
    void add(const ProbeGroups& other);
    std::vector<analysis::BernoulliTrials> miss_trials() const;

private:
    std::map<std::int64_t, ProbeGroup> groups_;
};

/// A count of clustered trials beside its exact expectation.
struct ClusteredCount {
    analysis::Counts counts;  ///< with design effect and degrees of freedom, for the interval
    double expected_misses = 0.0;
    double expected_hits = 0.0;
    double variance = 0.0;            ///< ClusterCell::variance, summed
    double test_design_effect = 1.0;  ///< of the comparison with theory, over `variance`
    double test_df = 0.0;             ///< <= 0: known
    std::vector<analysis::BernoulliTrials> exact = {};
    bool has_theory = true;  ///< false: what was expected is the mean of what was observed

    double miss() const { return counts.misses / counts.trials; }
    /// NaN where theory knows none.
    double expected_miss() const {
        return has_theory ? expected_misses / counts.trials : std::numeric_limits<double>::quiet_NaN();
    }
    analysis::Interval interval(double alpha) const;

    /// Against the exact expectation (which must be known): tails of the Poisson binomial law of the probes' own
    /// probabilities.
    analysis::Agreement against_theory() const;

    /// The counts with the design effect of the test, for a comparison with another sample.
    analysis::Counts test_counts() const;
};

/// Adds up the cells of all key sets; `groups` are the probes of all of them.
///
/// Probes of one key set share its centroids, so their misses are correlated. The design effect of the interval is
/// estimated from the spread of (misses - expected) between key sets over the variance of a binomial at the mean
/// probability, floored at 1, with (key sets - 1) degrees of freedom; with fewer than one expected miss (or hit) a key
/// set it is 1, still with the penalty for few key sets. One key set alone is given the prior's.
///
/// The test knows more: each probe's probability, that sharing keys can only add variance, and the prior. Its design
/// effect is (prior.df prior.value + df s) / (prior.df + df), at least 1, with prior.df + df degrees of freedom, s the
/// spread over the sum of p (1 - p). Rare misses (or hits; fewer than one a key set) count as independent: they cannot
/// pile up, and an estimate would be noise (one single miss where 0.01 were expected would excuse itself).
ClusteredCount combine(std::span<const ClusterCell> cells, const ProbeGroups& groups,
                       const DesignEffectPrior& prior = {});

/// The cells of one point of a plan.
class PointCells {
public:
    /// `segments` are those of every key set of the source; the point is its `kind` at its `topk`. Where theory knows
    /// nothing of it, the share that missed among all probes of a bucket stands for what was expected of each of them,
    /// which is what the spread between key sets is measured from; there are no groups.
    PointCells(const ProbeSource& source, const JobCounts& counts,
               const std::vector<std::vector<ProbeSegment>>& segments, std::size_t kind, std::size_t topk);

    bool has_theory() const { return has_theory_; }

    const std::vector<ClusterCell>& bucket(std::size_t index) const { return cells_[index]; }  ///< one cell a key set
    const ProbeGroups& groups(std::size_t index) const { return groups_[index]; }
    std::size_t buckets() const { return cells_.size(); }
    std::vector<ClusterCell> all() const;  ///< buckets added up
    ProbeGroups all_groups() const;

private:
    void expect_the_observed();

    std::vector<std::vector<ClusterCell>> cells_;  // [bucket][key set]
    std::vector<ProbeGroups> groups_;              // [bucket]
    bool has_theory_ = true;
};

}  // namespace mobalab::experiments
