// Intervals of clustered rows: coverage under laws with known means, and the ends where formulas have no answer.

#include "analysis/cluster_interval.h"

#include <gtest/gtest.h>

#include <boost/math/distributions/binomial.hpp>
#include <cmath>
#include <cstdio>
#include <functional>
#include <random>
#include <vector>

namespace mobalab::analysis {
namespace {

constexpr std::size_t runs = 4000;
using Random = std::mt19937_64;

/// How often an interval at 95 % holds the mean.
std::size_t covered(const std::function<std::vector<ClusterTotal>(Random&)>& draw,
                    Interval (*interval)(std::span<const ClusterTotal>, double), double mean) {
    constexpr std::uint64_t seed = 11;
    static const int told = std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
    EXPECT_GT(told, 0);
    Random random(seed);
    std::size_t count = 0;
    for (std::size_t run = 0; run < runs; ++run) {
        const Interval found = interval(draw(random), 0.05);
        count += found.low <= mean && mean <= found.high ? 1 : 0;
    }
    return count;
}

/// An interval of coverage `least` fails by chance with probability 1e-9; one of coverage 0.06 less passes with less
/// than that.
std::size_t fewest(double least) {
    return static_cast<std::size_t>(
        boost::math::quantile(boost::math::binomial(static_cast<double>(runs), least), 1e-9));
}

double beta_draw(Random& random, double a, double b) {
    std::gamma_distribution<double> first(a);
    std::gamma_distribution<double> second(b);
    const double x = first(random);
    return x / (x + second(random));
}

/// Clusters whose hit probabilities follow Beta(a, b): mean a / (a + b), intra-class correlation 1 / (a + b + 1).
std::vector<ClusterTotal> hits(Random& random, double a, double b, int clusters) {
    std::vector<ClusterTotal> all;
    for (int i = 0; i < clusters; ++i) {
        std::binomial_distribution<int> law(64, beta_draw(random, a, b));
        all.push_back({static_cast<double>(law(random)), 64.0});
    }
    return all;
}

/// Masses whose clusters' means follow Beta(a, b).
std::vector<ClusterTotal> masses(Random& random, double a, double b, int clusters) {
    std::vector<ClusterTotal> all;
    for (int i = 0; i < clusters; ++i) {
        all.push_back({64.0 * beta_draw(random, a, b), 64.0});
    }
    return all;
}

TEST(ClusterInterval, SharesAreCovered) {
    for (const int clusters : {8, 24, 96}) {
        for (const auto& [a, b] : {std::pair(2.0, 2.0), std::pair(1.0, 9.0), std::pair(20.0, 5.0)}) {
            const auto draw = [a = a, b = b, clusters](Random& random) { return hits(random, a, b, clusters); };
            EXPECT_GE(covered(draw, clustered_share, a / (a + b)), fewest(0.93)) << clusters << " " << a << " " << b;
        }
    }
}

TEST(ClusterInterval, MeansAreCovered) {
    for (const int clusters : {8, 24, 96}) {
        for (const auto& [a, b] : {std::pair(2.0, 2.0), std::pair(1.0, 9.0), std::pair(60.0, 2.0)}) {
            const auto draw = [a = a, b = b, clusters](Random& random) { return masses(random, a, b, clusters); };
            EXPECT_GE(covered(draw, clustered_mean, a / (a + b)), fewest(0.92)) << clusters << " " << a << " " << b;
        }
    }
}

TEST(ClusterInterval, RatiosAreCovered) {
    const auto draw = [](Random& random) {
        std::gamma_distribution<double> law(3.0);
        std::vector<ClusterTotal> all;
        for (int i = 0; i < 24; ++i) {
            const double weight = law(random);
            all.push_back({weight * law(random), weight});  // ratio 3
        }
        return all;
    };
    EXPECT_GE(covered(draw, clustered_ratio, 3.0), fewest(0.92));
}

TEST(ClusterInterval, RowsTakenForIndependentWouldNotBeCovered) {
    const auto draw = [](Random& random) { return hits(random, 2.0, 2.0, 24); };
    const auto naive = [](std::span<const ClusterTotal> clusters, double alpha) {
        double hit = 0.0;
        for (const ClusterTotal& cluster : clusters) {
            hit += cluster.sum;
        }
        return clopper_pearson(hit, 64.0 * static_cast<double>(clusters.size()), alpha);
    };
    EXPECT_LT(covered(draw, naive, 0.5), fewest(0.8));
}

TEST(ClusterInterval, IndependentRowsLoseLittle) {
    Random random(5);
    std::vector<ClusterTotal> clusters;
    for (int i = 0; i < 200; ++i) {
        std::binomial_distribution<int> law(64, 0.3);
        clusters.push_back({static_cast<double>(law(random)), 64.0});
    }
    const Interval found = clustered_share(clusters, 0.05);
    const double width = 2.0 * 1.96 * std::sqrt(0.3 * 0.7 / 12800.0);
    EXPECT_NEAR(found.high - found.low, width, 0.25 * width);
}

TEST(ClusterInterval, TheEndsAndTooFewClusters) {
    const std::vector<ClusterTotal> none_hit(10, {0.0, 64.0});
    const std::vector<ClusterTotal> all_hit(10, {64.0, 64.0});
    const Interval ten = clopper_pearson(0.0, 10.0, 0.05);
    for (const auto interval : {clustered_share, clustered_mean}) {
        EXPECT_DOUBLE_EQ(interval(none_hit, 0.05).high, ten.high);  // one trial a cluster
        EXPECT_DOUBLE_EQ(interval(all_hit, 0.05).low, 1.0 - ten.high);
        EXPECT_EQ(interval(none_hit, 0.05).low, 0.0);
        const std::vector<ClusterTotal> one = {{5.0, 64.0}};
        EXPECT_EQ(interval(one, 0.05).low, 0.0);
        EXPECT_EQ(interval(one, 0.05).high, 1.0);
        EXPECT_TRUE(std::isnan(interval({}, 0.05).value));
    }
    const std::vector<ClusterTotal> equal(10, {16.0, 64.0});
    EXPECT_NEAR(clustered_mean(equal, 0.05).high, 0.25, 1e-6);
    EXPECT_TRUE(std::isinf(clustered_ratio(std::vector<ClusterTotal>{{5.0, 2.0}}, 0.05).high));
    EXPECT_TRUE(std::isnan(clustered_ratio({}, 0.05).value));
}

}  // namespace
}  // namespace mobalab::analysis
