// Every method of every model against its exact hit probability, and the methods against each other. Each comparison is
// an exact binomial test with a false alarm of 1e-9; that they have power is checked by comparing with a slightly wrong
// point, which must fail.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "analysis/agreement.h"
#include "analysis/hit_probability.h"
#include "sim/engine/conditional.h"
#include "sim/engine/engine.h"
#include "tests/sim/points.h"
#include "tests/sim/statistics.h"

namespace mobalab::sim {
namespace {

using analysis::Model;
using analysis::RoutingPoint;
using testing::kFalseAlarm;
using testing::kSlower;

struct Case {
    std::int64_t head_dim, block_size, candidates, topk, cluster_size;
    double mu_signal, mu_cluster;
    std::uint64_t trials;
};

RoutingPoint point_of(Model model, const Case& c) {
    return testing::point_of(model, c.head_dim, c.block_size, c.candidates, c.topk, c.cluster_size, c.mu_signal,
                             c.mu_cluster);
}

TrialStats run(const RoutingPoint& point, std::uint64_t trials, std::uint64_t seed,
               std::optional<Method> method = std::nullopt) {
    Budget budget;
    budget.method = method;
    budget.seed = seed;
    budget.stop.max_trials = std::max<std::uint64_t>(10, trials / kSlower);
    return simulate(point, budget).progress.stats;
}

analysis::Counts counts_of(const TrialStats& stats) {
    return {static_cast<double>(stats.misses), static_cast<double>(stats.trials)};
}

double p_value(const TrialStats& stats, const RoutingPoint& truth) {
    const analysis::HitProbability exact = analysis::exact_hit_probability(truth);
    return analysis::compare_with_exact(counts_of(stats), exact.log_miss, exact.log_hit).p_value;
}

std::string describe(const RoutingPoint& point, const TrialStats& stats) {
    return analysis::canonical_text(point) + ": " + std::to_string(stats.misses) + " misses in " +
           std::to_string(stats.trials) + ", exact " + std::to_string(analysis::exact_hit_probability(point).miss());
}

// d from 2 to 256, B = 1, m = B, one candidate, few and many candidates, rare and common misses.
const std::vector<Case> kCases = {
    {64, 16, 64, 9, 1, 0.9, 0.0, 100'000}, {64, 16, 63, 8, 4, 0.5, 0.3, 100'000},
    {32, 32, 127, 3, 1, 0.7, 0.0, 40'000}, {128, 64, 15, 2, 1, 0.8, 0.0, 40'000},
    {256, 512, 15, 4, 4, 0.9, 0.6, 5'000}, {16, 1, 200, 2, 1, 0.6, 0.0, 200'000},
    {2, 4, 20, 3, 1, 0.95, 0.0, 200'000},  {3, 4, 20, 3, 2, 0.6, 0.4, 200'000},
    {8, 5, 33, 4, 5, 0.3, 0.25, 100'000},  {64, 16, 5000, 16, 1, 0.9, 0.0, 1'000},
    {64, 7, 2, 2, 1, 0.1, 0.0, 200'000},   {96, 24, 40, 8, 2, 0.9, 0.9, 400'000},
    {64, 16, 31, 5, 1, 0.0, 0.0, 100'000}, {32, 8, 12, 3, 3, 0.2, -0.2, 100'000},
};

struct Rung {
    Model model;
    Method method;
};

class Agreement : public ::testing::TestWithParam<Rung> {
protected:
    static TrialStats run_rung(const RoutingPoint& point, std::uint64_t trials, std::uint64_t seed) {
        return run(point, trials, seed, GetParam().method);
    }
    static std::uint64_t trials(const Case& c) {
        if (GetParam().method != Method::vector) {
            return c.trials;
        }
        const std::int64_t elements = c.candidates * c.block_size * c.head_dim;
        return std::min(c.trials, static_cast<std::uint64_t>(1e8 / static_cast<double>(elements)));
    }
};
INSTANTIATE_TEST_SUITE_P(models, Agreement,
                         ::testing::Values(Rung{Model::gaussian, Method::block},
                                           Rung{Model::gaussian, Method::threshold},
                                           Rung{Model::gaussian_fixed, Method::block},
                                           Rung{Model::gaussian_fixed, Method::threshold},
                                           Rung{Model::sphere, Method::affinity}, Rung{Model::sphere, Method::block},
                                           Rung{Model::sphere, Method::threshold}, Rung{Model::vector, Method::vector}),
                         [](const auto& test) {
                             return "model" + std::to_string(static_cast<int>(test.param.model)) + "_" +
                                    std::string(to_string(test.param.method));
                         });

TEST_P(Agreement, agrees_with_the_exact_probability) {
    const std::uint64_t seed = testing::test_seed();
    for (const Case& c : kCases) {
        const RoutingPoint point = point_of(GetParam().model, c);
        const TrialStats stats = run_rung(point, trials(c), seed);
        EXPECT_GT(p_value(stats, point), kFalseAlarm) << describe(point, stats);
    }
}

// The ranks serve every topk.
TEST_P(Agreement, agrees_at_every_topk_of_one_run) {
    RoutingPoint point = point_of(GetParam().model, {64, 16, 40, 2, 1, 0.8, 0.0, 100'000});
    const TrialStats stats =
        run_rung(point, GetParam().method == Method::vector ? 10'000 : 100'000, testing::test_seed() + 1);
    TrialStats at_topk = stats;
    for (std::int64_t routed = 39; routed >= 0; --routed) {
        if (routed < 39) {
            at_topk.misses += stats.rank_histogram[static_cast<std::size_t>(routed)];
        } else {
            at_topk.misses = stats.rank_histogram.back();
        }
        point.topk = routed + 1;
        EXPECT_GT(p_value(at_topk, point), kFalseAlarm) << describe(point, at_topk);
    }
}

// A model whose variance is 5 % off is head_dim 64 judged as head_dim 67; a candidate rule off by one is c + 1; a tie
// or topk rule off by one is topk + 1. Each must be found in 10^6 trials (10^4 of real vectors, or under sanitizers,
// find a variance 30 % off).
TEST_P(Agreement, a_slightly_wrong_model_is_caught) {
    const bool vectors = GetParam().method == Method::vector;
    const RoutingPoint point = point_of(GetParam().model, {64, 16, 20, 4, 1, 0.8, 0.0, 0});
    const TrialStats stats = run_rung(point, vectors ? 10'000 * kSlower : 1'000'000, testing::test_seed() + 2);
    RoutingPoint wrong = point;
    wrong.topk += 1;
    EXPECT_LT(p_value(stats, wrong), kFalseAlarm);
    wrong = point;
    wrong.head_dim = vectors || kSlower > 1 ? 84 : 67;  // fewer trials find 30 %
    EXPECT_LT(p_value(stats, wrong), kFalseAlarm);
    if (!vectors && kSlower == 1) {
        wrong = point;
        wrong.candidates += 1;
        EXPECT_LT(p_value(stats, wrong), kFalseAlarm);
    }
}

TEST_P(Agreement, edges_are_certain) {
    const Model model = GetParam().model;
    const auto misses = [&](const Case& c) {
        const TrialStats stats = run_rung(point_of(model, c), c.trials, 1);
        EXPECT_EQ(stats.rank_histogram.size(), static_cast<std::size_t>(std::min<std::int64_t>(c.candidates, 512)));
        return stats.misses * kSlower;
    };
    EXPECT_EQ(misses({16, 4, 10, 11, 1, 0.1, 0.0, 1600}), 0U) << "as many slots as candidates";
    EXPECT_EQ(misses({16, 4, 10, 10, 1, 0.1, 0.0, 1600}) > 0, true) << "one slot fewer";
    EXPECT_EQ(misses({16, 4, 10, 1, 1, 0.1, 0.0, 1600}), 1600U) << "no routed slot";
    EXPECT_EQ(misses({16, 4, 1, 2, 1, 0.1, 0.0, 1600}), 0U) << "nothing to compete with";
    EXPECT_EQ(misses({16, 4, 1, 1, 1, 0.1, 0.0, 1600}), 1600U) << "nothing to compete with, no slot";
    EXPECT_EQ(misses({1024, 1, 600, 2, 1, 1.0, 0.0, 160}), 0U) << "the needle is the query itself";
}

// Without a signal the paper's model is a draw among equals: P(miss) = 1 - routed / c exactly.
TEST(Gaussian, no_signal_is_chance) {
    const std::uint64_t seed = testing::test_seed() + 3;
    for (const std::int64_t topk : {2, 5, 31}) {
        const RoutingPoint point = point_of(Model::gaussian, {64, 16, 32, topk, 1, 0.0, 0.0, 0});
        const double hit = static_cast<double>(topk - 1) / 32.0;
        const TrialStats stats = run(point, 400'000, seed);
        EXPECT_GT(analysis::compare_with_exact(counts_of(stats), std::log1p(-hit), std::log(hit)).p_value, kFalseAlarm)
            << describe(point, stats);
    }
}

// All methods of one point against each other, two by two: exact tests of two counts, false alarm 1e-9 each; the
// conditional mean against each count by its standard error (z below 6.1). At miss 0.26 a method whose probability is
// off by 0.035 (vector), 0.008 (affinity), 0.006 (block, threshold) or 0.003 (conditional) is found with probability
// above 0.99, so a signal 10 % weaker must be.
TEST(Methods, agree_two_by_two) {
    const std::uint64_t seed = testing::test_seed() + 4;
    for (const Case& c : {Case{64, 16, 64, 9, 1, 0.9, 0.0, 0}, Case{32, 8, 40, 4, 3, 0.5, 0.3, 0}}) {
        const RoutingPoint point = point_of(Model::sphere, c);
        std::vector<TrialStats> counts;
        for (const auto& [method, trials] :
             {std::pair(Method::vector, 20'000), std::pair(Method::affinity, 300'000),
              std::pair(Method::block, 600'000), std::pair(Method::threshold, 600'000)}) {
            counts.push_back(run(point, trials, seed, method));
        }
        for (std::size_t i = 0; i < counts.size(); ++i) {
            for (std::size_t j = 0; j < i; ++j) {
                EXPECT_GT(analysis::compare_counts(counts_of(counts[i]), counts_of(counts[j])).p_value, kFalseAlarm)
                    << describe(point, counts[i]) << "; " << describe(point, counts[j]);
            }
        }
        Budget budget;
        budget.seed = seed;
        budget.stop.max_trials = 100'000;
        const ConditionalSampler::Sums weights = simulate_conditional(point, budget).sums;
        const auto z_score = [&](const TrialStats& stats) {
            const double p = static_cast<double>(stats.misses) / static_cast<double>(stats.trials);
            const double error = std::hypot(std::sqrt(p * (1.0 - p) / static_cast<double>(stats.trials)),
                                            weights.mean() * weights.relative_error());
            return std::abs(p - weights.mean()) / error;
        };
        for (const TrialStats& stats : counts) {
            EXPECT_LT(z_score(stats), testing::kMaxZ) << describe(point, stats);
        }
        RoutingPoint weaker = point;
        weaker.mu_signal *= 0.9;
        const TrialStats wrong = run(weaker, 600'000, seed, Method::threshold);
        EXPECT_GT(z_score(wrong), testing::kMaxZ) << "the test has no power";
        if (kSlower == 1) {  // fewer vectors would find only more
            for (const TrialStats& stats : counts) {
                EXPECT_LT(analysis::compare_counts(counts_of(wrong), counts_of(stats)).p_value, kFalseAlarm)
                    << "the test has no power";
            }
        }
    }
}

// At an absurd head_dim affinities are below the 2^-30 step and most scores are exactly equal. With two candidates, one
// slot and no signal the tie rule (higher index wins, the signal's index uniform) makes a miss exactly as likely as a
// hit; ties always won or always lost would give less than 0.1 or more than 0.9.
TEST(Sphere, equal_scores_go_to_the_higher_block_index) {
    constexpr std::int64_t kHuge = std::int64_t{4} << 60U;
    const RoutingPoint point = point_of(Model::sphere, {kHuge, 1, 2, 2, 1, 0.0, 0.0, 0});
    const TrialStats stats = run(point, 200'000, testing::test_seed() + 5);
    EXPECT_GT(analysis::compare_with_exact(counts_of(stats), std::log(0.5), std::log(0.5)).p_value, kFalseAlarm)
        << stats.misses << " misses in " << stats.trials;
}

}  // namespace
}  // namespace mobalab::sim
