#include "experiments/probe_statistics.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/sim/statistics.h"

namespace mobalab::experiments {
namespace {

using sim::testing::kSlower;

std::vector<ClusterCell> cells(const std::vector<double>& misses, double trials, double expected) {
    std::vector<ClusterCell> result;
    for (const double miss : misses) {
        result.push_back(
            {.trials = trials, .misses = miss, .expected_misses = expected, .expected_hits = trials - expected});
    }
    return result;
}

TEST(ClusteredCount, DesignEffectIsTheVarianceOverTheBinomialOne) {
    // Residuals -10, 10, -10, 10 of 100 trials at 1/2: variance 400/3, binomial 25.
    const ClusteredCount count = combine(cells({40, 60, 40, 60}, 100, 50));
    EXPECT_DOUBLE_EQ(count.counts.design_effect, 400.0 / 3.0 / 25.0);
    EXPECT_EQ(count.counts.df, 3.0);
    EXPECT_EQ(count.counts.misses, 200.0);
    EXPECT_EQ(count.counts.trials, 400.0);
    EXPECT_EQ(count.expected_miss(), 0.5);
}

TEST(ClusteredCount, ABiasIsNotTakenForClustering) {
    EXPECT_EQ(combine(cells({60, 60, 60, 60}, 100, 50)).counts.design_effect, 1.0);
}

TEST(ClusteredCount, ASingleImpossibleMissDoesNotExcuseItself) {
    const ClusteredCount count = combine(cells({0, 0, 1, 0}, 1000, 1e-9));
    EXPECT_EQ(count.counts.design_effect, 1.0);
    EXPECT_LT(count.against_theory().p_value, 1e-7);
}

TEST(ClusteredCount, NoTrialsIsNoDisagreement) {
    EXPECT_EQ(combine(cells({0, 0}, 0, 0)).against_theory().p_value, 1.0);
    EXPECT_EQ(combine(cells({0, 0}, 0, 0)).interval(0.05).high, 1.0);
}

// Four probes for each degree of freedom of the 32 centroids of a key set: sharing them is felt.
struct Coverage {
    double clustered = 0.0;
    double naive = 0.0;
    double design_effect = 0.0;
};

Coverage coverage(std::int64_t repeats) {
    const analysis::RoutingPoint point{
        .head_dim = 8, .block_size = 4, .candidates = 31, .topk = 4, .mu_signal = 0.9, .seq_len = 128};
    const MissCurve curve(point);
    const auto seed = sim::testing::test_seed();
    Coverage result;
    for (std::int64_t repeat = 0; repeat < repeats; ++repeat) {
        const ProbePlan plan = plan_probes(
            {point}, {.trials = 16 * 1024, .key_sets = 16, .seed = seed + static_cast<std::uint64_t>(repeat)});
        const ProbeJob& job = plan.jobs[0];
        UnitJournal none(nullptr);
        const std::vector<JobCounts> counts =
            run_probes(plan.jobs, *cpu_kernel(0), none, [](double, const std::string&) {});
        std::vector<std::vector<ProbeSegment>> segments;
        for (std::int64_t g = 0; g < 16; ++g) {
            segments.push_back(segments_of(chunks_of_key_set(job, g), job.shape.block_size));
        }
        const ClusteredCount count = combine(PointCells(job, counts[0], segments, plan.places[0], curve).all());
        const auto covers = [&](const analysis::Interval& interval) {
            return interval.low <= count.expected_miss() && count.expected_miss() <= interval.high ? 1.0 : 0.0;
        };
        const double share = 1.0 / static_cast<double>(repeats);
        result.clustered += share * covers(count.interval(0.05));
        result.naive += share * covers(analysis::clopper_pearson(count.counts.misses, count.counts.trials, 0.05));
        result.design_effect += share * count.counts.design_effect;
    }
    return result;
}

// The 95 % intervals hold the exact expectation at least 95 % of the time. False alarm below 1e-9: a coverage of 0.95
// falls short of it by six standard errors. The same test must fail for intervals that take the probes as independent.
TEST(ClusteredCount, IntervalsCoverTheExactExpectation) {
    const std::int64_t repeats = 320 / static_cast<std::int64_t>(kSlower);
    const Coverage seen = coverage(repeats);
    std::cout << "coverage of 95 % intervals: clustered " << seen.clustered << ", as if independent " << seen.naive
              << ", mean design effect " << seen.design_effect << '\n';
    const double least = 0.95 - 6.2 * std::sqrt(0.95 * 0.05 / static_cast<double>(repeats));
    EXPECT_GE(seen.clustered, least);
    if (kSlower == 1) {
        EXPECT_LT(seen.naive, least);
    }
}

}  // namespace
}  // namespace mobalab::experiments
