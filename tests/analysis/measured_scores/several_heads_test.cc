#include "analysis/measured_scores/several_heads.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "analysis/binomial_interval.h"
#include "analysis/routing_point.h"

namespace mobalab::analysis {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr std::uint64_t seed = 20261129;

const std::vector<StandardisedSignal> four_heads = {{1.2, 0.9}, {0.8, 1.1}, {1.5, 0.7}, {0.0, 1.0}};

/// Trials in which at least one of four_heads has its target among the best `slots` of `candidates` drawn blocks.
int drawn_any_hits(double correlation, int candidates, int slots, int trials) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    int found = 0;
    for (int t = 0; t < trials; ++t) {
        const double factor = normal(random);
        bool any = false;
        for (const StandardisedSignal& head : four_heads) {
            const double s =
                head.a + head.r * (std::sqrt(correlation) * factor + std::sqrt(1.0 - correlation) * normal(random));
            int above = 0;
            for (int j = 1; j < candidates; ++j) above += normal(random) > s ? 1 : 0;
            any = any || above < slots;
        }
        found += any ? 1 : 0;
    }
    return found;
}

// False alarm 1e-9 each; a probability that is off by 0.014 is found with probability above 0.9. Heads taken for
// independent are off by 0.11 at correlation 0.6, and one rival less by 0.017.
constexpr int trials = 60'000;

double p_value(int found, double p) {
    return binomial_two_sided_p(found, trials, std::log(p), std::log1p(-p));
}

TEST(SeveralHeads, AgreeWithDrawnScores) {
    for (const double correlation : {0.0, 0.6}) {
        const int found = drawn_any_hits(correlation, 24, 3, trials);
        const double p = any_hit_of_standardised(four_heads, correlation, 24, 3);
        EXPECT_GT(p_value(found, p), 1e-9) << "seed " << seed << ", correlation " << correlation << ": " << found
                                           << " of " << trials << ", exact " << p;
    }
}

TEST(SeveralHeads, TheSimulationTellsWrongLawsApart) {
    const int found = drawn_any_hits(0.6, 24, 3, trials);
    EXPECT_LT(p_value(found, any_hit_of_standardised(four_heads, 0.0, 24, 3)), 1e-9);
    EXPECT_LT(p_value(found, any_hit_of_standardised(four_heads, 0.6, 22, 3)), 1e-9);
}

TEST(SeveralHeads, IndependentOnesAreAProduct) {
    EXPECT_DOUBLE_EQ(any_hit_of_independent(std::vector<double>{0.5, 0.2}), 0.6);
    EXPECT_EQ(any_hit_of_independent({}), 0.0);
    EXPECT_EQ(any_hit_of_independent(std::vector<double>{0.3, 1.0}), 1.0);
    std::vector<double> hits;
    for (const StandardisedSignal& head : four_heads) hits.push_back(hit_of_standardised(head, 63, 7));
    EXPECT_DOUBLE_EQ(any_hit_of_standardised(four_heads, 0.0, 63, 7), any_hit_of_independent(hits));
}

TEST(SeveralHeads, OneHeadDoesNotDependOnTheCorrelation) {
    const std::vector<StandardisedSignal> one = {{1.3, 0.8}};
    for (const double correlation : {0.1, 0.5, 0.99}) {
        EXPECT_NEAR(any_hit_of_standardised(one, correlation, 63, 7), hit_of_standardised(one[0], 63, 7), 1e-6);
    }
}

TEST(SeveralHeads, WithoutRivalsOfTheirOwnAlikeHeadsAreOne) {
    // Two equal heads whose S is one number, against a rival each: P(some rival is below S) = 1 - E[Q(-S)^2].
    const std::vector<StandardisedSignal> two = {{0.5, 1.0}, {0.5, 1.0}};
    double neither = 0.0;
    constexpr double step = 1.0 / 64;
    for (int i = -10 * 64; i <= 10 * 64; ++i) {
        const double z = i * step;
        const double above = 0.5 * std::erfc((0.5 + z) / std::sqrt(2.0));
        neither += step * std::exp(-0.5 * z * z) / std::sqrt(2.0 * std::acos(-1.0)) * above * above;
    }
    EXPECT_NEAR(any_hit_of_standardised(two, 1.0, 2, 1), 1.0 - neither, 1e-6);
}

TEST(SeveralHeads, AccuracyIsOwnBlocksAndWhatIsFound) {
    EXPECT_DOUBLE_EQ(accuracy_of_any_hit(0.1, 0.8), 0.82);
    EXPECT_EQ(accuracy_of_any_hit(1.0, 0.0), 1.0);
}

TEST(SeveralHeads, RefuseWhatIsNoShare) {
    EXPECT_THROW(any_hit_of_independent(std::vector<double>{0.5, 1.1}), InputError);
    EXPECT_THROW(any_hit_of_independent(std::vector<double>{nan}), InputError);
    EXPECT_THROW(any_hit_of_standardised(four_heads, -0.1, 24, 3), InputError);
    EXPECT_THROW(any_hit_of_standardised(four_heads, nan, 24, 3), InputError);
    EXPECT_THROW(any_hit_of_standardised(four_heads, 0.5, 0, 3), InputError);
    EXPECT_THROW(accuracy_of_any_hit(-0.1, 0.5), InputError);
    EXPECT_THROW(accuracy_of_any_hit(0.1, nan), InputError);
}

}  // namespace
}  // namespace mobalab::analysis
