#include "analysis/measured_scores/sample_standardised.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "analysis/routing_point.h"

namespace mobalab::analysis {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr std::uint64_t seed = 20261130;
constexpr int trials = 100'000;

struct Drawn {
    double mean;  ///< of z
    double sd;
    int hits;
};

/// Rows of `candidates` blocks, standardised by their own rivals.
Drawn drawn(const StandardisedSignal& signal, int candidates, int slots) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    const int rivals = candidates - 1;
    std::vector<double> scores(static_cast<std::size_t>(rivals));
    double sum = 0.0;
    double squares = 0.0;
    int hits = 0;
    for (int t = 0; t < trials; ++t) {
        const double s = signal.a + signal.r * normal(random);
        double mean = 0.0;
        int above = 0;
        for (double& x : scores) {
            x = normal(random);
            mean += x / rivals;
            above += x > s ? 1 : 0;
        }
        double variance = 0.0;
        for (const double x : scores) variance += (x - mean) * (x - mean) / rivals;
        const double z = (s - mean) / std::sqrt(variance);
        sum += z;
        squares += z * z;
        hits += above < slots ? 1 : 0;
    }
    const double mean = sum / trials;
    return {mean, std::sqrt(squares / trials - mean * mean), hits};
}

// z has a heavy tail with few rivals (its fourth moment needs 6 of them): 15 candidates leave a standard error of a and
// r of 0.004, and of the hit probability of 0.0015 from them and 0.0012 from the counts. Alpha 1e-9 is 6.1 of these.

TEST(SampleStandardised, GivesBackTheLawOfTheScores) {
    const StandardisedSignal signal{0.7, 0.85};
    const Drawn found = drawn(signal, 15, 1);
    const std::vector<CandidateRows> rows = {{15, trials}};
    const StandardisedSignal back = signal_of_sample(found.mean, found.sd, rows);
    EXPECT_NEAR(back.a, signal.a, 0.025) << "seed " << seed;
    EXPECT_NEAR(back.r, signal.r, 0.025) << "seed " << seed;
    EXPECT_NEAR(found.mean, 1.1029 * signal.a, 0.025);
    EXPECT_GT(std::abs(found.sd - signal.r), 0.1);  // what is taken out is far above the test's resolution
}

TEST(SampleStandardised, PredictsHitsThatTheMomentsThemselvesMiss) {
    const Drawn found = drawn({0.7, 0.85}, 15, 1);
    const std::vector<CandidateRows> rows = {{15, trials}};
    const double measured = static_cast<double>(found.hits) / trials;
    EXPECT_NEAR(hit_of_standardised(signal_of_sample(found.mean, found.sd, rows), 15, 1), measured, 0.012)
        << "seed " << seed;
    EXPECT_GT(hit_of_standardised({found.mean, found.sd}, 15, 1), measured + 0.03);
}

TEST(SampleStandardised, RowsOfDifferentLengthsAreMixed) {
    // Moments of a mixture are means of moments.
    const StandardisedSignal signal{1.2, 0.6};
    double first = 0.0;
    double second = 0.0;
    const std::vector<CandidateRows> rows = {{9, 1.0}, {25, 3.0}};
    for (const CandidateRows& row : rows) {
        const auto n = static_cast<double>(row.candidates - 1);
        first += 0.25 * row.rows * signal.a * mean_inverse_sd(row.candidates - 1);
        second += 0.25 * row.rows * (signal.a * signal.a + signal.r * signal.r + 1.0 / n) * n / (n - 3.0);
    }
    const StandardisedSignal back = signal_of_sample(first, std::sqrt(second - first * first), rows);
    EXPECT_NEAR(back.a, signal.a, 1e-12);
    EXPECT_NEAR(back.r, signal.r, 1e-12);
}

TEST(SampleStandardised, ManyRivalsChangeNothing) {
    EXPECT_NEAR(mean_inverse_sd(14), 1.1029, 1e-4);
    EXPECT_NEAR(mean_inverse_sd(100'000), 1.0, 2e-5);
    const std::vector<CandidateRows> rows = {{100'000, 1.0}};
    EXPECT_NEAR(signal_of_sample(1.5, 0.8, rows).a, 1.5, 1e-4);
    EXPECT_NEAR(signal_of_sample(1.5, 0.8, rows).r, 0.8, 1e-4);
}

TEST(SampleStandardised, LessSpreadThanTheRivalsMakeIsNone) {
    const std::vector<CandidateRows> rows = {{15, 1.0}};
    EXPECT_EQ(signal_of_sample(0.0, 0.1, rows).r, 0.0);
}

TEST(SampleStandardised, MendsThePilotOfTrainedModels) {
    // Means over the four heads of a layer (block size, k, hits that the pilot's normal limit predicted, the kernel's):
    // with the spread of z about 1 the limit Phi((mean z - Phi^-1(1 - (k - 1) / c)) / sd z) gives mean z.
    struct Case {
        int candidates;
        int slots;
        double limit;
        double measured;
    };
    const auto quantile = [](double p) {
        double low = -10.0;
        double high = 10.0;
        for (int i = 0; i < 60; ++i) {
            const double middle = 0.5 * (low + high);
            (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
        }
        return low;
    };
    for (const Case& c : {Case{15, 1, 0.230, 0.161},
                          {15, 1, 0.170, 0.122},
                          {30, 3, 0.309, 0.276},
                          {60, 7, 0.339, 0.343},
                          {120, 15, 0.521, 0.537}}) {
        const double mean = quantile(1.0 - static_cast<double>(c.slots) / c.candidates) + quantile(c.limit);
        const std::vector<CandidateRows> rows = {{c.candidates, 1.0}};
        const double hit = hit_of_standardised(signal_of_sample(mean, 1.0, rows), c.candidates, c.slots);
        EXPECT_NEAR(hit, c.measured, 0.03) << c.candidates << " candidates";
        if (c.candidates == 15) {
            EXPECT_GT(hit_of_standardised({mean, 1.0}, c.candidates, c.slots) - c.measured, 0.03);
        }
    }
}

TEST(SampleStandardised, RefusesWhatHasNoMoments) {
    const std::vector<CandidateRows> rows = {{15, 1.0}};
    EXPECT_THROW(signal_of_sample(nan, 1.0, rows), InputError);
    EXPECT_THROW(signal_of_sample(0.0, -1.0, rows), InputError);
    EXPECT_THROW(signal_of_sample(0.0, nan, rows), InputError);
    EXPECT_THROW(signal_of_sample(0.0, 1.0, {}), InputError);
    EXPECT_THROW(signal_of_sample(0.0, 1.0, std::vector<CandidateRows>{{4, 1.0}}), InputError);
    EXPECT_THROW(mean_inverse_sd(2), InputError);
}

}  // namespace
}  // namespace mobalab::analysis
