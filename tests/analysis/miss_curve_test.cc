#include "analysis/miss_curve.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/sim/statistics.h"

namespace mobalab::analysis {
namespace {

std::vector<RoutingPoint> points() {
    std::vector<RoutingPoint> all;
    for (const std::int64_t topk : {2, 4, 8, 64}) {
        for (const double mu : {0.3, 0.9}) {
            for (const std::int64_t block_size : {16, 128}) {
                all.push_back({.head_dim = 128, .block_size = block_size, .topk = topk, .mu_signal = mu});
            }
        }
    }
    return all;
}

// The claim of the header: every number of candidates, to 1e-7 of the smaller of hit and miss.
TEST(MissCurve, InterpolatesTheExactProbabilityTo1em7) {
    for (const RoutingPoint& point : points()) {
        const MissCurve curve(point);
        for (double c = 1.0; c <= 5000.0; c = c < 4.0 ? c + 1.0 : c * 1.37) {
            RoutingPoint at = point;
            at.candidates = static_cast<std::int64_t>(c);
            const HitProbability exact = exact_hit_probability(at);
            const HitProbability seen = curve.at(at.candidates);
            if (std::isinf(exact.log_miss)) {
                EXPECT_EQ(seen.log_miss, exact.log_miss);
                continue;
            }
            EXPECT_NEAR(seen.log_miss, exact.log_miss, 1e-7) << canonical_text(at);
            EXPECT_NEAR(seen.log_hit, exact.log_hit, 1e-7) << canonical_text(at);
        }
    }
}

TEST(MissCurve, NothingRoutedAlwaysMissesAndEverythingRoutedAlwaysHits) {
    const MissCurve nothing({.topk = 1});
    EXPECT_EQ(nothing.at(1).miss(), 1.0);
    EXPECT_EQ(nothing.at(500).miss(), 1.0);
    const MissCurve eight({.topk = 8});
    EXPECT_EQ(eight.at(7).miss(), 0.0);
    EXPECT_GT(eight.at(8).miss(), 0.0);
}

TEST(MissCurve, ACertainHitStaysCertainAtEveryNumberOfCandidates) {
    // Blocks of one key: nothing scores above the needle's 1.
    const MissCurve curve({.head_dim = 16, .block_size = 1, .topk = 2, .mu_signal = 1.0});
    EXPECT_EQ(curve.at(1000).miss(), 0.0);
    EXPECT_EQ(curve.at(1000).hit(), 1.0);
}

TEST(MissCurve, PointsThatDifferInCandidatesOnlyShareOne) {
    MissCurves curves;
    RoutingPoint point{.candidates = 10, .seq_len = 704};
    const MissCurve& first = curves.of(point);
    point.candidates = 99;
    point.seq_len = 0;
    EXPECT_EQ(&curves.of(point), &first);
    point.topk = 9;
    EXPECT_NE(&curves.of(point), &first);
}

}  // namespace
}  // namespace mobalab::analysis
