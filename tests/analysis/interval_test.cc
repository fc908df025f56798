#include <gtest/gtest.h>

#include <algorithm>
#include <boost/math/distributions/binomial.hpp>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>

#include "analysis/binomial_interval.h"

namespace mobalab::analysis {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

double pmf(int x, int n, double p) {
    return boost::math::pdf(boost::math::binomial(n, p), x);
}

/// Probability that the interval covers p, summed over every outcome: no sampling.
double coverage(int n, double p, const std::function<Interval(double)>& interval) {
    double covered = 0.0;
    for (int x = 0; x <= n; ++x) {
        const Interval i = interval(x);
        if (i.low <= p && p <= i.high) covered += pmf(x, n, p);
    }
    return covered;
}

TEST(ClopperPearsonTest, CoversAtLeastAsPromised) {
    for (const int n : {1, 2, 10, 57, 300}) {
        for (const double alpha : {0.5, 0.05, 1e-6}) {
            double least = 1.0;
            for (double p = 0.0005; p < 1.0; p += 0.0131) {
                least = std::min(least, coverage(n, p, [&](double x) { return clopper_pearson(x, n, alpha); }));
            }
            EXPECT_GE(least, 1.0 - alpha - 1e-12) << n << " " << alpha;
            // And it is not trivially wide: somewhere it is not far above the promise.
            if (n >= 57 && alpha < 0.1) {
                EXPECT_LT(least, 1.0 - 0.25 * alpha) << n << " " << alpha;
            }
        }
    }
}

TEST(ClopperPearsonTest, Edges) {
    const Interval none = clopper_pearson(0, 0, 0.05);
    EXPECT_EQ(none.low, 0.0);
    EXPECT_EQ(none.high, 1.0);
    EXPECT_TRUE(std::isnan(none.value));
    const Interval zero = clopper_pearson(0, 1e12, 0.05);
    EXPECT_EQ(zero.low, 0.0);
    EXPECT_EQ(zero.value, 0.0);
    EXPECT_NEAR(zero.high * 1e12, -std::log(0.025), 1e-9);
    const Interval all = clopper_pearson(7, 7, 0.05);
    EXPECT_EQ(all.high, 1.0);
    EXPECT_NEAR(all.low, std::pow(0.025, 1.0 / 7.0), 1e-15);
    const Interval tiny = clopper_pearson(0.25, 3.5, 0.05);  // an effective sample
    EXPECT_LT(0.0, tiny.low);
    EXPECT_LT(tiny.low, tiny.value);
    EXPECT_LT(tiny.value, tiny.high);
    EXPECT_LT(tiny.high, 1.0);
}

TEST(ClopperPearsonTest, CountsBeyondTheBetaSeriesHaveTheNormalEnds) {
    for (const double p : {0.0625, 0.3, 0.999}) {
        for (const double trials : {1e11, 1e12, 1e13, 1e15}) {
            const double spread = std::sqrt(p * (1.0 - p) / trials);
            const Interval interval = clopper_pearson(p * trials, trials, 0.05);
            EXPECT_NEAR((p - interval.low) / spread, 1.95996, 0.02) << p << " " << trials;
            EXPECT_NEAR((interval.high - p) / spread, 1.95996, 0.02) << p << " " << trials;
        }
    }
}

TEST(ClopperPearsonTest, MirrorImage) {
    for (const double x : {0.0, 1.0, 3.0, 499.0}) {
        const Interval i = clopper_pearson(x, 1000, 1e-3);
        const Interval mirrored = clopper_pearson(1000 - x, 1000, 1e-3);
        EXPECT_NEAR(i.low, 1.0 - mirrored.high, 1e-14);
        EXPECT_NEAR(i.high, 1.0 - mirrored.low, 1e-14);
    }
}

TEST(ClopperPearsonTest, BadInput) {
    EXPECT_THROW(clopper_pearson(2, 1, 0.05), std::invalid_argument);
    EXPECT_THROW(clopper_pearson(-1, 1, 0.05), std::invalid_argument);
    EXPECT_THROW(clopper_pearson(nan, 1, 0.05), std::invalid_argument);
    EXPECT_THROW(clopper_pearson(1, std::numeric_limits<double>::infinity(), 0.05), std::invalid_argument);
    EXPECT_THROW(clopper_pearson(0, 1, 0.0), std::invalid_argument);
    EXPECT_THROW(clopper_pearson(0, 1, 1.0), std::invalid_argument);
}

TEST(LikelihoodBandTest, EndsHaveTheLikelihoodAsked) {
    const auto loss = [](double x, double n, double p) {
        const double value = x / n;
        return (x > 0 ? x * std::log(value / p) : 0.0) + (x < n ? (n - x) * std::log((1 - value) / (1 - p)) : 0.0);
    };
    for (const auto& [x, n] : {std::pair<double, double>{0, 5}, {1, 5}, {5, 5}, {3, 1000}, {499, 1000}, {2.5, 7.25}}) {
        for (const double factor : {1.5, 8.0, 1e6}) {
            const Interval band = likelihood_band(x, n, factor);
            EXPECT_NEAR(loss(x, n, band.high == 1.0 ? 0.5 : band.high),
                        band.high == 1.0 ? loss(x, n, 0.5) : std::log(factor), 1e-9);
            if (band.low > 0.0) {
                EXPECT_NEAR(loss(x, n, band.low), std::log(factor), 1e-9);
            }
            EXPECT_EQ(band.low == 0.0, x == 0.0);
            EXPECT_EQ(band.high == 1.0, x == n);
        }
    }
}

TEST(LikelihoodBandTest, NearlyCoversAsChiSquared) {
    // exp(1.9207) is the 95 % point of the likelihood ratio; its true coverage at n = 300 is close to that.
    for (const double p : {0.1, 0.37, 0.5}) {
        const double covered = coverage(300, p, [](double x) { return likelihood_band(x, 300, std::exp(1.920729)); });
        EXPECT_NEAR(covered, 0.95, 0.01);
    }
}

TEST(LikelihoodBandTest, Edges) {
    const Interval none = likelihood_band(0, 0, 8);
    EXPECT_EQ(none.low, 0.0);
    EXPECT_EQ(none.high, 1.0);
    EXPECT_TRUE(std::isnan(none.value));
    const Interval point = likelihood_band(3, 10, 1.0);
    EXPECT_DOUBLE_EQ(point.low, 0.3);
    EXPECT_DOUBLE_EQ(point.high, 0.3);
    EXPECT_THROW(likelihood_band(3, 10, 0.5), std::invalid_argument);
    EXPECT_THROW(likelihood_band(3, 10, nan), std::invalid_argument);
}

TEST(KornGraubardTest, IsClopperPearsonOnTheEffectiveSample) {
    // No clustering: the same interval.
    const Interval plain = clopper_pearson(30, 1000, 0.05);
    const Interval same = korn_graubard(30, 1000, 1.0, 999, 0.05);
    EXPECT_DOUBLE_EQ(same.low, plain.low);
    EXPECT_DOUBLE_EQ(same.high, plain.high);
    // Known degrees of freedom: n / deff * (t_{n-1} / t_df)^2 with t_{999} = 1.962341, t_{10} = 2.228139 at 0.975.
    const double effective = 1000.0 / 4.0 * std::pow(1.9623414611334487 / 2.2281388519649385, 2);
    const Interval clustered = korn_graubard(30, 1000, 4.0, 10, 0.05);
    const Interval reduced = clopper_pearson(0.03 * effective, effective, 0.05);
    EXPECT_NEAR(clustered.low, reduced.low, 1e-12);
    EXPECT_NEAR(clustered.high, reduced.high, 1e-12);
    EXPECT_DOUBLE_EQ(clustered.value, 0.03);
}

/// Clusters of identical trials: the plain interval fails its promise, the clustered one keeps it. Summed exactly over
/// the number of successful clusters.
TEST(KornGraubardTest, CoversWhereTrialsComeInClusters) {
    constexpr int clusters = 60;
    constexpr double size = 25.0;
    for (const double p : {0.05, 0.3, 0.5}) {
        const double plain =
            coverage(clusters, p, [](double x) { return clopper_pearson(size * x, size * clusters, 0.05); });
        const double clustered = coverage(
            clusters, p, [](double x) { return korn_graubard(size * x, size * clusters, size, clusters - 1, 0.05); });
        EXPECT_LT(plain, 0.6);
        EXPECT_GE(clustered, 0.95);
    }
}

TEST(KornGraubardTest, BadInput) {
    EXPECT_THROW(korn_graubard(1, 10, 0.5, 5, 0.05), std::invalid_argument);
    EXPECT_THROW(korn_graubard(1, 10, nan, 5, 0.05), std::invalid_argument);
    EXPECT_THROW(korn_graubard(1, 10, 2, 0, 0.05), std::invalid_argument);
}

TEST(BinomialPValueTest, RejectsATruthAtMostAsOftenAsPromised) {
    for (const int n : {1, 7, 60, 300}) {
        for (const double p : {1e-3, 0.2, 0.5, 0.93}) {
            for (const double alpha : {0.3, 0.05, 1e-6}) {
                double rejected = 0.0;
                for (int x = 0; x <= n; ++x) {
                    if (binomial_two_sided_p(x, n, std::log(p), std::log1p(-p)) <= alpha) rejected += pmf(x, n, p);
                }
                EXPECT_LE(rejected, alpha * (1.0 + 1e-9));
                if (n == 300 && p == 0.5 && alpha == 0.05) {
                    EXPECT_GT(rejected, 0.03);
                }
            }
        }
    }
}

TEST(BinomialPValueTest, RareAndCertainEvents) {
    // Ten hits of an event of probability 1e-300: C(20, 10) 1e-3000 underflows to nothing, which is the right answer.
    EXPECT_EQ(binomial_two_sided_p(10, 20, -690.0, 0.0), 0.0);
    EXPECT_EQ(binomial_two_sided_p(0, 20, -690.0, 0.0), 1.0);
    EXPECT_NEAR(binomial_two_sided_p(1, 1e6, std::log(1e-30), 0.0) / 2e-24, 1.0, 1e-9);
    EXPECT_EQ(binomial_two_sided_p(20, 20, 0.0, -std::numeric_limits<double>::infinity()), 1.0);
    EXPECT_EQ(binomial_two_sided_p(19, 20, 0.0, -std::numeric_limits<double>::infinity()), 0.0);
    EXPECT_EQ(binomial_two_sided_p(0, 0, -1.0, -1.0), 1.0);
}

TEST(BinomialPValueTest, NanNeverPasses) {
    EXPECT_EQ(binomial_two_sided_p(nan, 20, -1.0, -1.0), 0.0);
    EXPECT_EQ(binomial_two_sided_p(1, nan, -1.0, -1.0), 0.0);
    EXPECT_EQ(binomial_two_sided_p(1, 20, nan, -1.0), 0.0);
    EXPECT_EQ(binomial_two_sided_p(1, 20, -1.0, nan), 0.0);
    EXPECT_THROW(binomial_two_sided_p(21, 20, -1.0, -1.0), std::invalid_argument);
}

}  // namespace
}  // namespace mobalab::analysis
