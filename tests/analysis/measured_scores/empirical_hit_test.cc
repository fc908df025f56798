#include "analysis/measured_scores/empirical_hit.h"

#include <gtest/gtest.h>

#include <boost/math/distributions/normal.hpp>
#include <cmath>
#include <limits>
#include <random>

#include "analysis/binomial_interval.h"
#include "analysis/measured_scores/standardised_hit.h"
#include "analysis/routing_point.h"

namespace mobalab::analysis {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

std::vector<WeightedScore> die() {
    return {{1.0, 1.0}, {2.0, 1.0}, {3.0, 1.0}, {4.0, 1.0}, {5.0, 1.0}, {6.0, 1.0}};
}

/// P(fewer than `slots` of three dice beat the target's), every throw of the four dice one by one.
double by_enumeration(int slots, double lost_tie) {
    double sum = 0.0;
    for (int throws = 0; throws < 6 * 6 * 6 * 6; ++throws) {
        const int s = throws % 6;
        const int x[] = {throws / 6 % 6, throws / 36 % 6, throws / 216};
        double law[] = {1.0, 0.0, 0.0, 0.0};  // number of rivals that beat the target
        for (const int rival : x) {
            const double p = rival > s ? 1.0 : (rival == s ? lost_tie : 0.0);
            for (int i = 3; i > 0; --i) law[i] += p * (law[i - 1] - law[i]);
            law[0] *= 1.0 - p;
        }
        for (int i = 0; i < slots; ++i) sum += law[i] / (6 * 6 * 6 * 6);
    }
    return sum;
}

TEST(EmpiricalHit, CountsDiceByEnumerationWhateverTiesDo) {
    const EmpiricalScores rivals(die());
    for (int slots = 1; slots <= 3; ++slots) {
        EXPECT_NEAR(hit_of_samples(die(), rivals, 4, slots, Ties::target_wins), by_enumeration(slots, 0.0), 1e-12);
        EXPECT_NEAR(hit_of_samples(die(), rivals, 4, slots, Ties::halves), by_enumeration(slots, 0.5), 1e-12);
        EXPECT_NEAR(hit_of_samples(die(), rivals, 4, slots, Ties::rivals_win), by_enumeration(slots, 1.0), 1e-12);
    }
    EXPECT_EQ(hit_of_samples(die(), rivals, 4, 0), 0.0);
    EXPECT_EQ(hit_of_samples(die(), rivals, 4, 4), 1.0);
}

TEST(EmpiricalHit, TieRulesAreThoseOfARouterThatPrefersTheHigherBlock) {
    // The target in the last, then in the first of 8 blocks of dice, 2 slots. False alarm 1e-9 each; the other tie rule
    // differs by more than 0.2.
    constexpr std::uint64_t seed = 7112026;
    std::mt19937_64 random(seed);
    std::uniform_int_distribution<int> throw_die(1, 6);
    constexpr int trials = 20'000;
    for (const bool last : {true, false}) {
        int hits = 0;
        for (int t = 0; t < trials; ++t) {
            int scores[8];
            for (int& score : scores) score = throw_die(random);
            const int target = last ? 7 : 0;
            int before = 0;
            for (int j = 0; j < 8; ++j) {
                before += scores[j] > scores[target] || (scores[j] == scores[target] && j > target) ? 1 : 0;
            }
            hits += before < 2 ? 1 : 0;
        }
        const double p =
            hit_of_samples(die(), EmpiricalScores(die()), 8, 2, last ? Ties::target_wins : Ties::rivals_win);
        EXPECT_GT(binomial_two_sided_p(hits, trials, std::log(p), std::log1p(-p)), 1e-9)
            << "seed " << seed << ": " << hits << " of " << trials << ", exact " << p;
    }
}

TEST(EmpiricalHit, WeightsCountAndScoresOfNoWeightDoNot) {
    const EmpiricalScores once({{0.0, 1.0}, {1.0, 3.0}, {9.0, 0.0}});
    const EmpiricalScores often({{1.0, 1.0}, {0.0, 1.0}, {1.0, 1.0}, {1.0, 1.0}});
    const std::vector<WeightedScore> targets = {{0.5, 2.0}, {2.0, 1.0}, {-3.0, 0.0}};
    const double hit = hit_of_samples(targets, once, 6, 2);
    EXPECT_DOUBLE_EQ(hit, hit_of_samples(targets, often, 6, 2));
    // P(Bin(5, 3/4) <= 1) = 16/1024; nothing is above 2.
    EXPECT_NEAR(hit, (2.0 * 16.0 / 1024.0 + 1.0) / 3.0, 1e-14);
}

TEST(EmpiricalHit, ALargeNormalSampleIsTheNormalLaw) {
    std::vector<WeightedScore> rivals;
    std::vector<WeightedScore> targets;
    constexpr int size = 20'000;
    for (int i = 0; i < size; ++i) {
        const double z = boost::math::quantile(boost::math::normal(), (i + 0.5) / size);
        rivals.push_back({z});
        targets.push_back({1.3 + 0.5 * z});
    }
    EXPECT_NEAR(hit_of_samples(targets, EmpiricalScores(rivals), 64, 7), hit_of_standardised({1.3, 0.5}, 64, 7), 2e-4);
}

TEST(EmpiricalHit, InfiniteScoresHaveTheirPlace) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const EmpiricalScores rivals({{-infinity}, {infinity}});
    EXPECT_DOUBLE_EQ(hit_of_samples(std::vector<WeightedScore>{{0.0}}, rivals, 3, 1), 0.25);
    EXPECT_DOUBLE_EQ(hit_of_samples(std::vector<WeightedScore>{{infinity}}, rivals, 3, 1, Ties::target_wins), 1.0);
}

TEST(EmpiricalHit, RefusesWhatIsNoSample) {
    const EmpiricalScores rivals(die());
    EXPECT_THROW(EmpiricalScores({}), InputError);
    EXPECT_THROW(EmpiricalScores({{1.0, 0.0}}), InputError);
    EXPECT_THROW(EmpiricalScores({{nan, 1.0}}), InputError);
    EXPECT_THROW(EmpiricalScores({{1.0, -1.0}}), InputError);
    EXPECT_THROW(EmpiricalScores({{1.0, nan}}), InputError);
    EXPECT_THROW(hit_of_samples({}, rivals, 4, 1), InputError);
    EXPECT_THROW(hit_of_samples(std::vector<WeightedScore>{{nan}}, rivals, 4, 1), InputError);
    EXPECT_THROW(hit_of_samples(die(), rivals, 0, 1), InputError);
    EXPECT_THROW(hit_of_samples(die(), rivals, 4, -1), InputError);
}

}  // namespace
}  // namespace mobalab::analysis
