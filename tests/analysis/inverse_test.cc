#include "analysis/inverse.h"

#include <gtest/gtest.h>

#include <limits>

#include "analysis/hit_probability.h"

namespace mobalab::analysis {
namespace {

double hit(const RoutingPoint& point) {
    return exact_hit_probability(point).hit();
}

constexpr RoutingPoint base{
    .block_size = 32, .candidates = 256, .topk = 9, .cluster_size = 4, .mu_signal = 0.7, .mu_cluster = 0.4};

class InverseTest : public testing::TestWithParam<Model> {
protected:
    RoutingPoint point() const {
        RoutingPoint p = base;
        p.model = GetParam();
        return p;
    }
};

TEST_P(InverseTest, HeadDimIsTheFirstThatReaches) {
    for (const double wanted : {0.3, 0.9, 1.0 - 1e-9}) {
        RoutingPoint p = point();
        const auto d = smallest_head_dim(p, wanted);
        ASSERT_TRUE(d);
        p.head_dim = *d;
        EXPECT_GE(hit(p), wanted);
        --p.head_dim;
        EXPECT_LT(hit(p), wanted);
    }
}

TEST_P(InverseTest, TopkIsTheFirstThatReaches) {
    for (const double wanted : {0.3, 0.9, 0.999999}) {
        RoutingPoint p = point();
        const auto k = smallest_topk(p, wanted);
        ASSERT_TRUE(k);
        p.topk = *k;
        EXPECT_GE(hit(p), wanted);
        --p.topk;
        EXPECT_LT(hit(p), wanted);
    }
}

TEST_P(InverseTest, MuIsTheFirstThatReaches) {
    for (const double wanted : {0.5, 0.7}) {
        RoutingPoint p = point();
        const auto mu = smallest_mu_signal(p, wanted);
        ASSERT_TRUE(mu);
        ASSERT_GT(*mu, 1e-9);
        p.mu_signal = *mu;
        EXPECT_GE(hit(p), wanted);
        p.mu_signal = *mu - 1e-9;
        EXPECT_LT(hit(p), wanted);
    }
}

TEST_P(InverseTest, BlockSizeIsTheLastThatReaches) {
    for (const double wanted : {0.3, 0.9, 0.9999}) {
        RoutingPoint p = point();
        const auto b = largest_block_size(p, wanted);
        ASSERT_TRUE(b);
        p.block_size = *b;
        EXPECT_GE(hit(p), wanted);
        ++p.block_size;
        EXPECT_LT(hit(p), wanted);
    }
}

TEST_P(InverseTest, BlockSizeInASequence) {
    RoutingPoint p = point();
    p.seq_len = 4096;
    p.topk = 3;
    constexpr double wanted = 0.99;
    const auto b = largest_block_size(p, wanted);
    ASSERT_TRUE(b);
    ASSERT_LT(*b, 200);
    const auto at = [&](std::int64_t block_size) {
        RoutingPoint q = p;
        q.block_size = block_size;
        q.candidates = candidates_of_last_query(q.seq_len, block_size);
        return q;
    };
    EXPECT_GE(hit(at(*b)), wanted);
    // None larger does, up to where every block is kept.
    for (std::int64_t larger = *b + 1; at(larger).candidates > p.routed(); ++larger) {
        if (larger - *b > 8 && larger % 37 != 0) continue;
        EXPECT_LT(hit(at(larger)), wanted) << larger;
    }
}

INSTANTIATE_TEST_SUITE_P(Models, InverseTest, testing::Values(Model::gaussian, Model::gaussian_fixed, Model::sphere),
                         [](const auto& test) {
                             return test.param == Model::sphere     ? "sphere"
                                    : test.param == Model::gaussian ? "gaussian"
                                                                    : "gaussian_fixed";
                         });

/// A fixed signal below the threshold gains from noise: the hit probability has its maximum at a middle block size.
TEST(InverseEdgeTest, BlockSizeBeyondAnInnerMaximum) {
    RoutingPoint p{.model = Model::gaussian_fixed,
                   .head_dim = 64,
                   .candidates = 64,
                   .topk = 9,
                   .cluster_size = 32,
                   .mu_signal = 0.0,
                   .mu_cluster = 0.02};
    p.block_size = 32;
    ASSERT_LT(hit(p), 0.1);
    const auto b = largest_block_size(p, 0.2);
    ASSERT_TRUE(b);
    ASSERT_LT(*b, 65536);
    p.block_size = *b;
    EXPECT_GE(hit(p), 0.2);
    ++p.block_size;
    EXPECT_LT(hit(p), 0.2);
}

TEST(InverseEdgeTest, OutOfReach) {
    RoutingPoint p = base;
    p.mu_signal = 0.0;
    p.mu_cluster = 0.0;
    EXPECT_FALSE(smallest_head_dim(p, 0.9));
    EXPECT_FALSE(largest_block_size(p, 0.9));
    p.seq_len = 1024;
    EXPECT_FALSE(largest_block_size(p, 0.99));
    p = base;
    p.candidates = 1'000'000;
    p.mu_signal = 0.0;
    p.mu_cluster = 0.0;
    EXPECT_FALSE(smallest_topk(p, 0.9));
    p = base;
    p.block_size = 65536;
    EXPECT_FALSE(smallest_mu_signal(p, 0.99));
}

TEST(InverseEdgeTest, EndsOfTheRange) {
    RoutingPoint p = base;
    p.candidates = 4;  // everything is kept
    EXPECT_EQ(smallest_head_dim(p, 0.999), 2);
    EXPECT_EQ(smallest_mu_signal(p, 0.999), 0.0);
    EXPECT_EQ(largest_block_size(p, 0.999), 65536);
    EXPECT_EQ(smallest_topk(p, 0.999).value_or(0) <= 5, true);
    p.topk = 1;
    EXPECT_FALSE(smallest_head_dim(p, 0.1));
}

TEST(InverseEdgeTest, BadInput) {
    for (const double wanted : {0.0, 1.0, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
        EXPECT_THROW(smallest_head_dim(base, wanted), InputError);
        EXPECT_THROW(largest_block_size(base, wanted), InputError);
        EXPECT_THROW(smallest_topk(base, wanted), InputError);
        EXPECT_THROW(smallest_mu_signal(base, wanted), InputError);
    }
    RoutingPoint p = base;
    p.mu_cluster = 2.0;
    EXPECT_THROW(smallest_head_dim(p, 0.5), InputError);
    EXPECT_THROW(largest_block_size(p, 0.5), InputError);
    p = base;
    p.cluster_size = 100'000;
    EXPECT_THROW(largest_block_size(p, 0.5), InputError);
}

}  // namespace
}  // namespace mobalab::analysis
