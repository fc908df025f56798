#include "experiments/probe/probe_statistics.h"
#include "experiments/probe/needle_source.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "tests/sim/statistics.h"

namespace mobalab::experiments {
namespace {

using sim::testing::kSlower;

std::vector<ClusterCell> cells(const std::vector<double>& misses, double trials, double expected) {
    std::vector<ClusterCell> result;
    for (const double miss : misses) {
        result.push_back({.trials = trials,
                          .misses = miss,
                          .expected_misses = expected,
                          .expected_hits = trials - expected,
                          .variance = expected * (1.0 - expected / trials)});
    }
    return result;
}

// All probes at one probability.
ClusteredCount combine(const std::vector<ClusterCell>& of_sets) {
    const ClusterCell total = sum_of(of_sets);
    ProbeGroups groups;
    groups.add(total.trials, {.log_hit = std::log(total.expected_hits / total.trials),
                              .log_miss = std::log(total.expected_misses / total.trials)});
    return experiments::combine(of_sets, groups);
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

// No miss, or nothing but misses, in few key sets: the interval still pays for the few (the value is of the issue that
// found 0.00717).
TEST(ClusteredCount, NoMissesInFewKeySetsPayThePenalty) {
    const std::vector<ClusterCell> none = cells(std::vector<double>(32, 0.0), 63, 1e-4);
    EXPECT_NEAR(combine(none).interval(1e-6).high, 0.01096, 5e-6);
    const std::vector<ClusterCell> all = cells(std::vector<double>(32, 63.0), 63, 63 - 1e-4);
    EXPECT_NEAR(combine(all).interval(1e-6).low, 1.0 - 0.01096, 5e-6);
    // One key set has no spread to be seen; the prior speaks.
    const std::vector<ClusterCell> one = cells({50}, 100, 50);
    ProbeGroups groups;
    groups.add(100, {.log_hit = std::log(0.5), .log_miss = std::log(0.5)});
    EXPECT_EQ(experiments::combine(one, groups, {.value = 2.0, .df = 64.0}).counts.design_effect, 2.0);
}

// The comparison with theory, itself simulated: 32 key sets of probes at eight probabilities from 0.0005 to 0.6, whose
// misses share a random shift a set that makes the design effect `clustering`.
struct TestOfTheTest {
    double rms_z = 0.0;
    int alarms = 0;  ///< p below 1e-3
    int runs = 0;
};

TestOfTheTest simulated_comparisons(double clustering, double prior, double bias, int runs, std::uint64_t seed) {
    constexpr int sets = 32;
    constexpr double trials = 64;
    const std::vector<double> probabilities = {0.0005, 0.01, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6};
    double variance = 0.0;
    double shared = 0.0;
    ProbeGroups groups;
    ClusterCell expected;
    for (const double p : probabilities) {
        groups.add(sets * trials, {.log_hit = std::log1p(-p), .log_miss = std::log(p)});
        expected.trials += trials;
        expected.expected_misses += trials * p;
        expected.expected_hits += trials * (1.0 - p);
        variance += trials * p * (1.0 - p);
        shared += trials * p * (1.0 - p);
    }
    expected.variance = variance;
    // Probabilities p + s p (1 - p), s = +-e: the variance grows by (e sum n p (1 - p))^2, less a little of binomial.
    const double shift = std::sqrt((clustering - 1.0) * variance) / shared;
    std::mt19937_64 random(seed);
    TestOfTheTest result{.runs = runs};
    for (int run = 0; run < runs; ++run) {
        std::vector<ClusterCell> of_sets(sets, expected);
        for (ClusterCell& cell : of_sets) {
            const double s = (random() & 1U) != 0U ? shift : -shift;
            for (const double p : probabilities) {
                const double at = p + (s + bias) * p * (1.0 - p);
                cell.misses += std::binomial_distribution<int>(static_cast<int>(trials), at)(random);
            }
        }
        const analysis::Agreement seen =
            experiments::combine(of_sets, groups, {.value = prior, .df = 64.0}).against_theory();
        result.rms_z += seen.z * seen.z / runs;
        result.alarms += seen.p_value < 1e-3 ? 1 : 0;
    }
    result.rms_z = std::sqrt(result.rms_z);
    return result;
}

// Under the null the p-values are p-values (the rate of p < 1e-3 is at most 1e-3: false alarm of this test 1e-9; a rate
// of 1e-2 is found with probability 0.99) and z has a spread near 1 (bounds seven standard errors away); it was 0.72 to
// 0.94 with the binomial at the mean probability and the design effect clamped at 1.
// Where the truth has half as much clustering again as the prior says, the rate may triple, no more.
TEST(ClusteredCount, PValuesAreCalibrated) {
    const std::uint64_t seed = sim::testing::test_seed();
    const int runs = 4000 / static_cast<int>(kSlower);
    for (const auto& [clustering, prior, least_z, most_z, most_rate] :
         {std::tuple{1.0, 1.0, 0.89, 1.05, 1e-3}, std::tuple{1.0, 1.1, 0.87, 1.03, 1e-3},
          std::tuple{1.5, 1.5, 0.90, 1.07, 1e-3}, std::tuple{1.5, 1.0, 1.02, 1.21, 3e-3}}) {
        const TestOfTheTest seen = simulated_comparisons(clustering, prior, 0.0, runs, seed);
        std::cout << "design effect " << clustering << ", prior " << prior << ": spread of z " << seen.rms_z << ", "
                  << seen.alarms << " of " << runs << " below 1e-3\n";
        if (kSlower == 1) {
            EXPECT_GT(seen.rms_z, least_z);
            EXPECT_LT(seen.rms_z, most_z);
        }
        EXPECT_LE(analysis::clopper_pearson(seen.alarms, runs, sim::testing::kFalseAlarm).low, most_rate);
    }
}

// A bias of four standard errors is found at p < 1e-3 with probability 0.76 by a z-test that knows the variance, with
// 0.68 here (seven standard errors above 0.63), with 0.37 by the binomial at the mean probability and 31 df.
TEST(ClusteredCount, ComparisonsHaveThePowerOfAZTest) {
    const std::uint64_t seed = sim::testing::test_seed();
    const int runs = 4000;
    const double variance = 64 * (0.0005 * 0.9995 + 0.01 * 0.99 + 0.05 * 0.95 + 0.1 * 0.9 + 0.2 * 0.8 + 0.3 * 0.7 +
                                  0.45 * 0.55 + 0.6 * 0.4);
    const TestOfTheTest seen = simulated_comparisons(1.0, 1.0, 4.0 / std::sqrt(32 * variance), runs, seed);
    std::cout << "power " << seen.alarms / static_cast<double>(runs) << '\n';
    EXPECT_GT(seen.alarms, 0.63 * runs);
}

// Four probes for each degree of freedom of the 32 centroids of a key set: sharing them is felt.
struct Coverage {
    double clustered = 0.0;
    double naive = 0.0;
    double design_effect = 0.0;
};

ClusteredCount of_cells(const PointCells& point) {
    return experiments::combine(point.all(), point.all_groups());
}

Coverage coverage(std::int64_t repeats) {
    const analysis::RoutingPoint point{
        .head_dim = 8, .block_size = 4, .candidates = 31, .topk = 4, .mu_signal = 0.9, .seq_len = 128};
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
        const ClusteredCount count = of_cells(PointCells(NeedleSource(job), counts[0], segments, 0, 0));
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
