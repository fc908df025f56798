#include "analysis/measured_scores/independent_rivals.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "analysis/binomial_interval.h"
#include "analysis/measured_scores/standardised_hit.h"
#include "analysis/poisson_binomial_cdf.h"
#include "analysis/routing_point.h"

namespace mobalab::analysis {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

TEST(PoissonBinomialCdf, AddsUpEveryOutcome) {
    const std::vector<double> p = {0.5, 0.01, 0.99, 0.3, 0.0, 1.0, 0.7, 1e-9, 0.2, 0.4};
    std::vector<double> law(p.size() + 1, 0.0);
    for (unsigned outcome = 0; outcome < 1U << p.size(); ++outcome) {
        double probability = 1.0;
        for (std::size_t j = 0; j < p.size(); ++j) probability *= (outcome >> j & 1U) != 0 ? p[j] : 1.0 - p[j];
        law[static_cast<std::size_t>(std::popcount(outcome))] += probability;
    }
    for (const std::int64_t most : {0, 3, 9, 15}) {
        const std::vector<double> cdf = poisson_binomial_cdf(p, most);
        ASSERT_EQ(cdf.size(), static_cast<std::size_t>(most) + 1);
        double sum = 0.0;
        for (std::size_t i = 0; i < cdf.size(); ++i) {
            sum += i < law.size() ? law[i] : 0.0;
            EXPECT_NEAR(cdf[i], sum, 1e-12) << i << " of at most " << most;
        }
    }
}

TEST(PoissonBinomialCdf, RefusesWhatIsNoProbability) {
    EXPECT_THROW(poisson_binomial_cdf(std::vector<double>{0.5, nan}, 1), InputError);
    EXPECT_THROW(poisson_binomial_cdf(std::vector<double>{1.1}, 1), InputError);
    EXPECT_THROW(poisson_binomial_cdf(std::vector<double>{-0.1}, 1), InputError);
    EXPECT_THROW(poisson_binomial_cdf(std::vector<double>{0.5}, -1), InputError);
}

TEST(HitsAmongRivals, EqualRivalsAreTheStandardisedLaw) {
    // Rivals N(2, 0.5^2), target N(2 + 0.5 a, (0.5 r)^2).
    const std::vector<NormalScore> rivals(99, {2.0, 0.5});
    for (const StandardisedSignal signal : {StandardisedSignal{0.5, 1.0}, {2.5, 0.3}, {-1.0, 0.05}, {1.0, 6.0}}) {
        const auto hits = hits_among_rivals({2.0 + 0.5 * signal.a, 0.5 * signal.r}, rivals, 20);
        EXPECT_EQ(hits[0], 0.0);
        for (const std::int64_t slots : {1, 4, 20}) {
            EXPECT_NEAR(hits[static_cast<std::size_t>(slots)], hit_of_standardised(signal, 100, slots), 2e-6)
                << "a " << signal.a << " r " << signal.r << " slots " << slots;
        }
    }
}

TEST(HitsAmongRivals, FixedScores) {
    const std::vector<NormalScore> rivals = {{1.0, 0.0}, {3.0, 0.0}, {2.0, 0.0}};
    const auto hits = hits_among_rivals({2.0, 0.0}, rivals, 4);  // one above, one equal
    EXPECT_DOUBLE_EQ(hits[1], 0.0);
    EXPECT_DOUBLE_EQ(hits[2], 0.5);
    EXPECT_DOUBLE_EQ(hits[3], 1.0);
    EXPECT_DOUBLE_EQ(hits[4], 1.0);
    EXPECT_NEAR(hits_among_rivals({0.0, 1.0}, {}, 1)[1], 1.0, 1e-12);
    // Rivals a thousand times narrower than the target are a step at their mean: P(hit) = P(S > 0.7).
    const auto narrow = hits_among_rivals({0.0, 1.0}, std::vector<NormalScore>(8, {0.7, 1e-3}), 4);
    EXPECT_NEAR(narrow[4], 0.5 * std::erfc(0.7 / std::sqrt(2.0)), 3e-3);
}

TEST(HitsAmongRivals, AgreesWithDrawnScores) {
    // A trend, spreads that differ, three numbers of slots. False alarm 1e-9 each; the same rivals with their mean and
    // spread put in place of all are off by more than 0.03 at two slots: found with probability above 0.999.
    constexpr std::uint64_t seed = 31415926;
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    std::vector<NormalScore> rivals;
    for (int j = 1; j <= 40; ++j) rivals.push_back({2.0 - 0.7 * std::log(j), 0.2 + 0.02 * j});
    const NormalScore target{0.6, 0.5};
    constexpr int trials = 60'000;
    const std::int64_t slots[] = {2, 8, 15};
    int counts[] = {0, 0, 0};
    for (int t = 0; t < trials; ++t) {
        const double s = target.mean + target.sd * normal(random);
        int above = 0;
        for (const NormalScore& rival : rivals) above += rival.mean + rival.sd * normal(random) > s ? 1 : 0;
        for (int i = 0; i < 3; ++i) counts[i] += above < slots[i] ? 1 : 0;
    }
    const auto hits = hits_among_rivals(target, rivals, 15);
    for (int i = 0; i < 3; ++i) {
        const double p = hits[static_cast<std::size_t>(slots[i])];
        EXPECT_GT(binomial_two_sided_p(counts[i], trials, std::log(p), std::log1p(-p)), 1e-9)
            << "seed " << seed << ", " << slots[i] << " slots: " << counts[i] << " of " << trials << ", law " << p;
    }
}

TEST(HitsAmongRivals, RefusesWhatIsNoLaw) {
    const std::vector<NormalScore> good = {{0.0, 1.0}};
    EXPECT_THROW(hits_among_rivals({nan, 1.0}, good, 1), InputError);
    EXPECT_THROW(hits_among_rivals({0.0, -1.0}, good, 1), InputError);
    EXPECT_THROW(hits_among_rivals({0.0, 1.0}, std::vector<NormalScore>{{0.0, nan}}, 1), InputError);
    EXPECT_THROW(hits_among_rivals({0.0, 1.0}, good, -1), InputError);
}

}  // namespace
}  // namespace mobalab::analysis
