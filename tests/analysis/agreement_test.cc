#include "analysis/agreement.h"

#include <gtest/gtest.h>

#include <boost/math/distributions/binomial.hpp>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "analysis/binomial_interval.h"

namespace mobalab::analysis {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

double pmf(int x, int n, double p) {
    return boost::math::pdf(boost::math::binomial(n, p), x);
}

TEST(CompareWithExactTest, IsTheBinomialTest) {
    const Agreement agreement = compare_with_exact({.misses = 12, .trials = 1000}, std::log(0.02), std::log(0.98));
    EXPECT_EQ(agreement.p_value, binomial_two_sided_p(12, 1000, std::log(0.02), std::log(0.98)));
    EXPECT_LT(agreement.z, 0.0);
    EXPECT_GT(compare_with_exact({.misses = 30, .trials = 1000}, std::log(0.02), std::log(0.98)).z, 0.0);
    EXPECT_EQ(compare_with_exact({.misses = 0, .trials = 0}, std::log(0.02), std::log(0.98)).p_value, 1.0);
}

TEST(CompareWithExactTest, ImpossibleEventsAreExact) {
    const double never = -std::numeric_limits<double>::infinity();
    EXPECT_EQ(compare_with_exact({.misses = 0, .trials = 1e9}, never, 0.0).p_value, 1.0);
    const Agreement impossible = compare_with_exact({.misses = 1, .trials = 1e9}, never, 0.0);
    EXPECT_EQ(impossible.p_value, 0.0);
    EXPECT_GT(impossible.z, 37.0);
    EXPECT_TRUE(std::isfinite(impossible.z));
}

/// The p-value is the level of the Korn-Graubard interval that has the truth on its edge.
TEST(CompareWithExactTest, ClusteredTrialsInvertTheInterval) {
    const Counts counts{.misses = 300, .trials = 10000, .design_effect = 3.0, .df = 12.0};
    for (const double truth : {0.02, 0.025, 0.04, 0.06}) {
        const double p = compare_with_exact(counts, std::log(truth), std::log1p(-truth)).p_value;
        ASSERT_GT(p, 0.0);
        ASSERT_LT(p, 1.0);
        const Interval inside = korn_graubard(300, 10000, 3.0, 12.0, 0.98 * p);
        const Interval outside = korn_graubard(300, 10000, 3.0, 12.0, 1.02 * p);
        EXPECT_TRUE(inside.low < truth && truth < inside.high) << truth;
        EXPECT_TRUE(outside.low > truth || truth > outside.high) << truth;
    }
}

TEST(CompareWithExactTest, ClusteringWeakensEvidence) {
    const auto p = [](double design_effect, double df) {
        return compare_with_exact({.misses = 150, .trials = 10000, .design_effect = design_effect, .df = df},
                                  std::log(0.01), std::log(0.99))
            .p_value;
    };
    EXPECT_LT(p(1.0, 0.0), p(2.0, 0.0));
    EXPECT_LT(p(2.0, 0.0), p(2.0, 1000.0));
    EXPECT_LT(p(2.0, 1000.0), p(2.0, 10.0));
    EXPECT_LT(p(2.0, 10.0), p(2.0, 2.0));
    EXPECT_EQ(p(2.0, std::numeric_limits<double>::infinity()), p(2.0, 0.0));
}

/// Summed over every pair of outcomes: the same truth on both sides is rejected at most as often as promised.
TEST(CompareCountsTest, FalseAlarmRateIsKept) {
    for (const auto& [n1, n2] : {std::pair<int, int>{5, 9}, {40, 40}, {30, 120}}) {
        for (const double p : {0.02, 0.3, 0.5}) {
            double rejected = 0.0;
            for (int x = 0; x <= n1; ++x) {
                for (int y = 0; y <= n2; ++y) {
                    const double weight = pmf(x, n1, p) * pmf(y, n2, p);
                    if (weight < 1e-12) continue;
                    const Counts first{.misses = static_cast<double>(x), .trials = static_cast<double>(n1)};
                    const Counts second{.misses = static_cast<double>(y), .trials = static_cast<double>(n2)};
                    if (compare_counts(first, second).p_value <= 0.05) rejected += weight;
                }
            }
            EXPECT_LE(rejected, 0.05);
        }
    }
}

TEST(CompareCountsTest, SymmetricAndSigned) {
    const Counts few{.misses = 10, .trials = 1000};
    const Counts many{.misses = 50, .trials = 2000};
    const Agreement forward = compare_counts(few, many);
    const Agreement backward = compare_counts(many, few);
    EXPECT_NEAR(forward.p_value, backward.p_value, 1e-14);
    EXPECT_NEAR(forward.z, -backward.z, 1e-10);
    EXPECT_LT(forward.z, 0.0);
    // Counting hits instead of misses changes the sign and nothing else.
    const Agreement hits = compare_counts({.misses = 990, .trials = 1000}, {.misses = 1950, .trials = 2000});
    EXPECT_NEAR(hits.p_value, forward.p_value, 1e-12);
    EXPECT_NEAR(hits.z, -forward.z, 1e-9);
}

/// Wide and narrow sums meet: scaling both sizes and their difference keeps a z-score, whichever method is used.
TEST(CompareCountsTest, SameZAcrossTheChangeOfMethod) {
    for (const double n : {1e5, 7.9e6, 8.1e6, 1e9, 1e12}) {
        const double shift = std::round(1.5 * std::sqrt(n));
        const Agreement a =
            compare_counts({.misses = n / 2 + shift, .trials = n}, {.misses = n / 2 - shift, .trials = n});
        // Difference 2 shift, variance n / 2; the exact test is continuity-corrected by one count.
        const double z = (2.0 * shift - 1.0) / std::sqrt(n / 2.0);
        EXPECT_NEAR(a.z, z, 20.0 / std::sqrt(n) + 1e-7) << n;
    }
}

TEST(CompareCountsTest, NothingToCompare) {
    EXPECT_EQ(compare_counts({.misses = 0, .trials = 0}, {.misses = 5, .trials = 9}).p_value, 1.0);
    EXPECT_EQ(compare_counts({.misses = 0, .trials = 100}, {.misses = 0, .trials = 9}).p_value, 1.0);
    EXPECT_EQ(compare_counts({.misses = 9, .trials = 9}, {.misses = 4, .trials = 4}).p_value, 1.0);
    EXPECT_EQ(compare_counts({.misses = 0, .trials = 100}, {.misses = 0, .trials = 9}).z, 0.0);
}

TEST(CompareCountsTest, ClusteredSidesAreRoundedTowardsAgreement) {
    const Counts clustered{.misses = 101, .trials = 1000, .design_effect = 3.0, .df = 0.0};
    const Counts plain{.misses = 100, .trials = 1000};
    EXPECT_EQ(compare_counts(clustered, plain).p_value, 1.0);
    const Counts far{.misses = 300, .trials = 1000, .design_effect = 3.0, .df = 20.0};
    const double p = compare_counts(far, plain).p_value;
    EXPECT_LT(p, 1e-6);
    EXPECT_GT(p, compare_counts({.misses = 300, .trials = 1000}, plain).p_value);
}

TEST(AgreementTest, NanNeverAgrees) {
    const Counts good{.misses = 5, .trials = 9};
    for (const Counts& bad : {Counts{.misses = nan, .trials = 9}, Counts{.misses = 5, .trials = nan},
                              Counts{.misses = 5, .trials = 9, .design_effect = nan},
                              Counts{.misses = 5, .trials = 9, .design_effect = 1.0, .df = nan}}) {
        EXPECT_EQ(compare_counts(bad, good).p_value, 0.0);
        EXPECT_EQ(compare_counts(good, bad).p_value, 0.0);
        EXPECT_EQ(compare_with_exact(bad, -1.0, std::log1p(-std::exp(-1.0))).p_value, 0.0);
    }
    EXPECT_EQ(compare_with_exact(good, nan, -1.0).p_value, 0.0);
    EXPECT_EQ(compare_with_exact(good, -1.0, nan).p_value, 0.0);
}

TEST(AgreementTest, BadCountsAreRefused) {
    EXPECT_THROW(compare_with_exact({.misses = 10, .trials = 9}, -1.0, -1.0), std::invalid_argument);
    EXPECT_THROW(compare_counts({.misses = -1, .trials = 9}, {.misses = 1, .trials = 9}), std::invalid_argument);
    EXPECT_THROW(compare_counts({.misses = 1, .trials = 9, .design_effect = 0.5}, {.misses = 1, .trials = 9}),
                 std::invalid_argument);
}

TEST(HolmTest, KnownExample) {
    // Holm 1979 stepped through by hand: sorted .005 .011 .02 .04 times 4 3 2 1, then the running maximum.
    const std::vector<double> p{0.02, 0.04, 0.011, 0.005};
    const std::vector<double> adjusted = holm_adjust(p);
    ASSERT_EQ(adjusted.size(), 4u);
    EXPECT_DOUBLE_EQ(adjusted[0], 0.04);
    EXPECT_DOUBLE_EQ(adjusted[1], 0.04);
    EXPECT_DOUBLE_EQ(adjusted[2], 0.033);
    EXPECT_DOUBLE_EQ(adjusted[3], 0.02);
}

TEST(HolmTest, EdgesAndNan) {
    EXPECT_TRUE(holm_adjust(std::vector<double>{}).empty());
    EXPECT_EQ(holm_adjust(std::vector<double>{0.7, 0.9}), (std::vector<double>{1.0, 1.0}));
    EXPECT_EQ(holm_adjust(std::vector<double>{nan, 0.5}), (std::vector<double>{0.0, 0.5}));
    EXPECT_EQ(holm_adjust(std::vector<double>{0.01, 0.01, 0.01}), (std::vector<double>{0.03, 0.03, 0.03}));
}

}  // namespace
}  // namespace mobalab::analysis
