#include "analysis/measured_scores/standardised_hit.h"

#include <gtest/gtest.h>

#include <boost/math/distributions/binomial.hpp>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "analysis/binomial_interval.h"
#include "analysis/measured_scores/candidate_rows.h"
#include "analysis/routing_point.h"

namespace mobalab::analysis {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// E_z[P(Bin(n, Q(a + r z)) <= K - 1)] by a plain sum over z.
double by_sum(const StandardisedSignal& signal, int candidates, int slots) {
    double sum = 0.0;
    constexpr double step = 1.0 / 256;
    for (int i = -10 * 256; i <= 10 * 256; ++i) {
        const double z = i * step;
        const double p = 0.5 * std::erfc((signal.a + signal.r * z) / std::sqrt(2.0));
        sum += step * std::exp(-0.5 * z * z) / std::sqrt(2.0 * std::acos(-1.0)) *
               boost::math::cdf(boost::math::binomial(candidates - 1, p), slots - 1);
    }
    return sum;
}

TEST(StandardisedHit, IsTheIntegral) {
    for (const StandardisedSignal signal : {StandardisedSignal{0.0, 1.0}, {2.5, 0.4}, {-1.0, 2.0}, {3.0, 1.3}}) {
        for (const auto& [candidates, slots] : {std::pair(2, 1), std::pair(64, 7), std::pair(250, 63)}) {
            EXPECT_NEAR(hit_of_standardised(signal, candidates, slots), by_sum(signal, candidates, slots), 1e-9)
                << "a " << signal.a << " r " << signal.r << " candidates " << candidates << " slots " << slots;
        }
    }
}

TEST(StandardisedHit, KnownValues) {
    // Theory notes, section 1: 63 rivals at pairwise SNR 2, one slot, and 1023 at 2.5.
    EXPECT_NEAR(hit_of_standardised({2.0 * std::sqrt(2.0), 1.0}, 64, 1), 0.675, 5e-4);
    EXPECT_NEAR(hit_of_standardised({2.5 * std::sqrt(2.0), 1.0}, 1024, 1), 0.609, 5e-4);
}

TEST(StandardisedHit, SignalWithoutSpreadFacesABinomialCount) {
    const double p = 0.5 * std::erfc(1.2 / std::sqrt(2.0));
    EXPECT_NEAR(hit_of_standardised({1.2, 0.0}, 40, 4), boost::math::cdf(boost::math::binomial(39, p), 3), 1e-12);
}

TEST(StandardisedHit, NoSlotsNeverHitAndEnoughSlotsAlways) {
    EXPECT_EQ(hit_of_standardised({5.0, 1.0}, 10, 0), 0.0);
    EXPECT_EQ(hit_of_standardised({-5.0, 1.0}, 10, 10), 1.0);
    EXPECT_EQ(hit_of_standardised({-5.0, 1.0}, 1, 1), 1.0);
    EXPECT_LT(hit_of_standardised({-5.0, 1.0}, 10, 9), 1.0);
}

TEST(StandardisedHit, AgreesWithDrawnScores) {
    // False alarm 1e-9; a shift of a by 0.04 (0.012 of the probability) is found with probability above 0.9.
    constexpr std::uint64_t seed = 20261128;
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    const StandardisedSignal signal{1.1, 0.6};
    constexpr int trials = 100'000;
    int hits = 0;
    for (int t = 0; t < trials; ++t) {
        const double s = signal.a + signal.r * normal(random);
        int above = 0;
        for (int j = 0; j < 31; ++j) above += normal(random) > s ? 1 : 0;
        hits += above < 4 ? 1 : 0;
    }
    const double p = hit_of_standardised(signal, 32, 4);
    EXPECT_GT(binomial_two_sided_p(hits, trials, std::log(p), std::log1p(-p)), 1e-9)
        << "seed " << seed << ": " << hits << " of " << trials << ", exact " << p;
}

TEST(StandardisedHit, RefusesWhatIsNoLaw) {
    EXPECT_THROW(hit_of_standardised({nan, 1.0}, 10, 1), InputError);
    EXPECT_THROW(hit_of_standardised({0.0, nan}, 10, 1), InputError);
    EXPECT_THROW(hit_of_standardised({0.0, -0.1}, 10, 1), InputError);
    EXPECT_THROW(hit_of_standardised({0.0, 1.0}, 0, 1), InputError);
    EXPECT_THROW(hit_of_standardised({0.0, 1.0}, 1'000'001, 1), InputError);
    EXPECT_THROW(hit_of_standardised({0.0, 1.0}, 10, -1), InputError);
}

TEST(MeanOverRows, WeighsRowsAndKeepsToThemWhereTheyAreFew) {
    const std::vector<CandidateRows> rows = {{5, 1.0}, {9, 3.0}, {5, 1.0}};
    int asked = 0;
    const auto hit = [&](std::int64_t candidates) {
        ++asked;
        return static_cast<double>(candidates);
    };
    EXPECT_DOUBLE_EQ(mean_over_rows(rows, hit), (2.0 * 5.0 + 3.0 * 9.0) / 5.0);
    EXPECT_EQ(asked, 2);
}

TEST(MeanOverRows, ManyNumbersOfCandidatesAreAskedNowAndThen) {
    std::vector<CandidateRows> rows;
    for (std::int64_t candidates = 20; candidates < 1500; ++candidates) rows.push_back({candidates, 1.0});
    int asked = 0;
    double exact = 0.0;
    const auto hit = [](std::int64_t candidates) { return hit_of_standardised({1.5, 0.7}, candidates, 15); };
    for (const CandidateRows& row : rows) exact += hit(row.candidates) / static_cast<double>(rows.size());
    const double mean = mean_over_rows(rows, [&](std::int64_t candidates) { return ++asked, hit(candidates); });
    EXPECT_NEAR(mean, exact, 1e-3);
    EXPECT_LT(asked, 130);
}

TEST(MeanOverRows, RefusesRowsThatAreNone) {
    const auto one = [](std::int64_t) { return 1.0; };
    EXPECT_THROW(mean_over_rows({}, one), InputError);
    EXPECT_THROW(mean_over_rows(std::vector<CandidateRows>{{0, 1.0}}, one), InputError);
    EXPECT_THROW(mean_over_rows(std::vector<CandidateRows>{{3, 0.0}}, one), InputError);
    EXPECT_THROW(mean_over_rows(std::vector<CandidateRows>{{3, nan}}, one), InputError);
}

}  // namespace
}  // namespace mobalab::analysis
