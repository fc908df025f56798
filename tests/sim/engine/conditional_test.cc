#include "sim/engine/conditional.h"
#include "sim/engine/method_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "analysis/binomial_interval.h"
#include "analysis/hit_probability.h"
#include "tests/sim/points.h"
#include "tests/sim/statistics.h"

namespace mobalab::sim {
namespace {

using analysis::InputError;
using analysis::Model;
using analysis::RoutingPoint;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

RoutingPoint rare_point(std::int64_t head_dim, std::int64_t topk, double mu) {
    return testing::point_of(Model::sphere, head_dim, 16, 1024, topk, 1, mu);
}

Budget to_one_percent() {
    Budget budget;
    budget.seed = testing::test_seed();
    budget.stop.max_trials = 100'000'000;
    budget.stop.target_relative_error = 0.01;
    return budget;
}

// Miss probabilities from 1e-2 to below 1e-12, K = 1 and K = 7: one percent in under a second, and the truth within 6.1
// standard errors (false alarm 1e-9). A value 15 % off fails.
TEST(Conditional, reaches_one_percent_at_any_probability) {
    double least = 1.0;
    for (const RoutingPoint& point : {rare_point(512, 8, 0.9), rare_point(1024, 8, 0.9), rare_point(2048, 8, 0.95),
                                      rare_point(1024, 2, 0.9), rare_point(2048, 2, 1.0), rare_point(64, 8, 0.9)}) {
        const double exact = analysis::exact_hit_probability(point).miss();
        least = std::fmin(least, exact);
        const ConditionalResult result = simulate_conditional(point, to_one_percent());
        EXPECT_EQ(result.reason, StopReason::relative_error);
        EXPECT_LE(result.sums.relative_error(), 0.01);
        if (testing::kSlower == 1) {
            EXPECT_LT(result.seconds, 1.0) << exact;
        }
        EXPECT_LT(std::abs(std::log(result.sums.mean() / exact)), testing::kMaxZ * 0.0101)
            << result.sums.mean() << " is not " << exact;
        EXPECT_GT(std::abs(std::log(1.15 * result.sums.mean() / exact)), testing::kMaxZ * 0.0101);
    }
    EXPECT_LT(least, 1e-12);
}

// Coverage of the 95 % interval over 2000 seeds at 1e-9 (relative variance about 1): a binomial count, false alarm 1e-9
// against [0.93, 0.97]; the interval of an estimate 5 % too high covers less than half.
TEST(Conditional, intervals_cover) {
    const RoutingPoint point = rare_point(1024, 8, 1.0);
    const double exact = analysis::exact_hit_probability(point).miss();
    const ConditionalSampler::Moments moments = ConditionalSampler(point, 0).moments();
    EXPECT_LT(exact, 1e-6);
    EXPECT_LT(moments.relative_variance, 10.0);
    // One sampler, disjoint runs of trials: independent estimates without 2000 tables.
    const ConditionalSampler sampler(point, testing::test_seed());
    int covered = 0;
    int biased_covered = 0;
    constexpr int kRuns = 2000;
    for (std::uint64_t run = 0; run < kRuns; ++run) {
        const ConditionalSampler::Sums sums = sampler.sums(run * 8192, 8192);
        const MeanInterval interval = log_normal_interval(sums, 0.95);
        covered += interval.low <= exact && exact <= interval.high ? 1 : 0;
        biased_covered += 1.05 * interval.low <= exact && exact <= 1.05 * interval.high ? 1 : 0;
    }
    const analysis::Interval rate = analysis::clopper_pearson(covered, kRuns, testing::kFalseAlarm);
    EXPECT_GT(rate.high, 0.94) << covered;
    EXPECT_LT(rate.low, 0.96) << covered;
    EXPECT_LT(biased_covered, kRuns / 2) << "the test has no power";
}

// Intervals of 1, 2, ... trials: the bound holds whatever the number of trials, so that at least 95 % cover (fewer only
// with probability 1e-9). The central limit theorem's, which the same trials would be given, fails the same test.
TEST(Conditional, intervals_of_few_trials_cover_the_exact_value) {
    const RoutingPoint point = rare_point(2048, 16, 0.8);
    const double exact = analysis::exact_hit_probability(point).miss();
    const ConditionalSampler sampler(point, testing::test_seed());
    const double largest = sampler.largest_weight();
    constexpr int kRuns = 4000;
    for (const std::uint64_t trials : {1, 2, 5, 30, 300}) {
        int covered = 0;
        int normal_covered = 0;
        for (std::uint64_t run = 0; run < kRuns; ++run) {
            const ConditionalSampler::Sums sums = sampler.sums(run * 512, trials);
            EXPECT_LE(sums.weight, largest * static_cast<double>(trials));
            const MeanInterval interval = bounded_weight_interval(sums, largest, 0.95);
            EXPECT_LT(interval.low, interval.mean);
            EXPECT_LT(interval.mean, interval.high);
            covered += interval.low <= exact && exact <= interval.high ? 1 : 0;
            const double spread = sums.trials < 2 ? 0.0 : 1.96 * sums.relative_error() * sums.mean();
            normal_covered += std::abs(sums.mean() - exact) <= spread ? 1 : 0;
        }
        EXPECT_GT(analysis::clopper_pearson(covered, kRuns, testing::kFalseAlarm).high, 0.95)
            << trials << ' ' << covered;
        if (trials < 5) {
            EXPECT_LT(analysis::clopper_pearson(normal_covered, kRuns, testing::kFalseAlarm).high, 0.95) << trials;
        }
    }
}

TEST(Conditional, one_trial_shows_no_precision) {
    Budget budget;
    budget.stop.max_trials = 1;
    budget.stop.target_relative_error = 0.01;
    const ConditionalResult result = simulate_conditional(rare_point(2048, 16, 0.8), budget);
    EXPECT_EQ(result.reason, StopReason::trials);
    EXPECT_TRUE(std::isinf(result.sums.relative_error()));
}

TEST(Conditional, normal_theory_wants_more_trials_further_out) {
    EXPECT_EQ(trials_for_normal_theory(0.95), 1000.0);
    EXPECT_GT(trials_for_normal_theory(1.0 - 1e-9), 700'000.0);
}

TEST(Conditional, observed_variance_is_the_predicted_one) {
    const ConditionalSampler sampler(rare_point(1024, 8, 0.9), testing::test_seed());
    constexpr std::uint64_t kTrials = 4'000'000;
    const double observed = sampler.sums(0, kTrials).relative_error();
    const double predicted = std::sqrt(sampler.moments().relative_variance / static_cast<double>(kTrials));
    EXPECT_NEAR(observed / predicted, 1.0, 0.05);
}

TEST(Conditional, the_same_trials_give_the_same_bits) {
    const RoutingPoint point = rare_point(512, 8, 0.9);
    Budget budget = to_one_percent();
    const ConditionalResult first = simulate_conditional(point, budget);
    const ConditionalResult second = simulate_conditional(point, budget);
    EXPECT_EQ(first.sums.weight, second.sums.weight);
    EXPECT_EQ(first.sums.squared_weight, second.sums.squared_weight);
    budget.seed += 1;
    EXPECT_NE(simulate_conditional(point, budget).sums.weight, first.sums.weight);
}

TEST(Conditional, stops_by_trials_and_can_be_interrupted) {
    Budget budget;
    budget.stop.max_trials = 10'001;
    const ConditionalResult result = simulate_conditional(rare_point(512, 8, 0.9), budget);
    EXPECT_EQ(result.sums.trials, 10'001U);
    EXPECT_EQ(result.reason, StopReason::trials);
    budget.stop.max_trials = 100'000;
    EXPECT_EQ(simulate_conditional(rare_point(512, 8, 0.9), budget, [] { return false; }).reason,
              StopReason::interrupted);
}

TEST(Conditional, points_and_rules_it_cannot_have_are_refused) {
    Budget budget;
    budget.stop.max_misses = 5;
    EXPECT_THAT([&] { simulate_conditional(rare_point(512, 8, 0.9), budget); },
                ThrowsMessage<InputError>(HasSubstr("max_misses")));
    budget.stop.max_misses = 0;
    RoutingPoint point = rare_point(512, 8, 0.1);
    point.cluster_size = 16;
    point.mu_cluster = 0.1;
    EXPECT_THAT([&] { simulate_conditional(point, budget); }, ThrowsMessage<InputError>(HasSubstr("or exact")));
    point = rare_point(512, 1, 0.9);
    EXPECT_THROW(simulate_conditional(point, budget), InputError);
}

TEST(ChooseMethod, takes_the_cheapest_that_reaches_the_target) {
    const auto choice = [](const RoutingPoint& point, double target, double trials) {
        return choose_method(point, target, trials).method;
    };
    EXPECT_EQ(choice(rare_point(1024, 8, 0.9), 0.0, 1e5), Method::affinity) << "no target: the model's own";
    RoutingPoint normal = rare_point(64, 8, 0.9);
    normal.model = Model::gaussian;
    EXPECT_EQ(choice(normal, 0.0, 1e5), Method::block);
    EXPECT_EQ(choice(rare_point(1024, 8, 0.9), 0.01, 1e6), Method::conditional);
    EXPECT_EQ(choice(rare_point(2048, 8, 1.0), 0.01, 1e6), Method::conditional) << "below 1e-12";
    EXPECT_EQ(choice(rare_point(1024, 8, 0.9), 0.01, 10), Method::exact) << "ten trials reach nothing";
    RoutingPoint fixed = rare_point(64, 8, 0.05);
    fixed.cluster_size = 16;
    fixed.mu_cluster = 0.05;
    EXPECT_EQ(choice(fixed, 0.1, 1e6), Method::threshold) << "a fixed signal, common misses: counted";
    fixed.head_dim = 2048;
    fixed.mu_cluster = 0.3;
    EXPECT_EQ(choice(fixed, 0.1, 1e6), Method::exact) << "a fixed signal, rare misses";
}

}  // namespace
}  // namespace mobalab::sim
