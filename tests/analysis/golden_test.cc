/// Every closed form against numbers made at 30 digits by golden_values.py.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>

#include "analysis/affinity_sum.h"
#include "analysis/agreement.h"
#include "analysis/binomial_interval.h"
#include "analysis/hit_probability.h"
#include "analysis/hypergeometric.h"
#include "analysis/normal_law.h"
#include "analysis/routing_point.h"

namespace mobalab::analysis {
namespace {

struct NormalTail {
    double x, log_upper;
};
struct NormalHit {
    const char* model;
    std::int64_t d, b, c, k, m;
    double mu, mu_noise, mu_cluster, log_hit, log_miss;
};
struct SumLaw {
    std::int64_t d, r;
    double gap, log_tail, log_density;
};
struct ClopperPearson {
    double x, n, alpha, low, high;
};
struct LikelihoodBand {
    double x, n, factor, low, high;
};
struct TwoSided {
    double x, n, log_p, log_1mp, p_value;
};
struct Fisher {
    double x1, n1, x2, n2, p_value;
};
struct SphereHit {
    std::int64_t d, b, c, k, m;
    double mu, mu_cluster, log_hit, log_miss;
};
struct SubmeanHit {
    std::int64_t d, b, r, c, k, m;
    double mu, mu_cluster, log_hit, log_miss;
};

#include "tests/analysis/golden_values.inc"

/// The smaller of hit and miss must agree to `tolerance` relative, the larger one to the same absolute.
void expect_probability(const HitProbability& p, double log_hit, double log_miss, double tolerance) {
    EXPECT_NEAR(p.log_hit, log_hit, tolerance);
    EXPECT_NEAR(p.log_miss, log_miss, tolerance);
}

void expect_relative(double value, double golden, double tolerance) {
    EXPECT_NEAR(value, golden, tolerance * std::abs(golden));
}

TEST(GoldenTest, NormalTails) {
    for (const auto& g : normal_tails) {
        SCOPED_TRACE(g.x);
        EXPECT_NEAR(log_normal_upper(g.x), g.log_upper, 2e-14 + 2e-16 * std::abs(g.log_upper));
    }
}

TEST(GoldenTest, HitProbabilityOfNormalModels) {
    for (const auto& g : normal_hits) {
        const RoutingPoint point{.model = parse_model(g.model),
                                 .head_dim = g.d,
                                 .block_size = g.b,
                                 .candidates = g.c,
                                 .topk = g.k,
                                 .cluster_size = g.m,
                                 .mu_signal = g.mu,
                                 .mu_noise = g.mu_noise,
                                 .mu_cluster = g.mu_cluster};
        SCOPED_TRACE(canonical_text(point));
        expect_probability(exact_hit_probability(point), g.log_hit, g.log_miss, 1e-9);
    }
}

TEST(GoldenTest, LawOfAffinitySums) {
    for (const auto& g : sum_laws) {
        SCOPED_TRACE(testing::Message() << "d " << g.d << " R " << g.r << " gap " << g.gap);
        const double width = 2.0 * static_cast<double>(g.r);
        const auto law = affinity_sum(g.d, g.r);
        const LogLaw upper = law->at_gaps(width - g.gap, g.gap);
        const double tolerance = 1e-11 + 3e-14 * std::abs(g.log_tail);
        EXPECT_NEAR(upper.upper, g.log_tail, tolerance);
        EXPECT_NEAR(upper.density, g.log_density, 1e-10);
        const LogLaw lower = law->at_gaps(g.gap, width - g.gap);
        EXPECT_NEAR(lower.lower, g.log_tail, tolerance);
        EXPECT_NEAR(std::exp(lower.lower) + std::exp(lower.upper), 1.0, 1e-14);
    }
}

TEST(GoldenTest, HitProbabilityOfTheSphere) {
    for (const auto& g : sphere_hits) {
        for (const Model model : {Model::sphere, Model::vector}) {
            const RoutingPoint point{.model = model,
                                     .head_dim = g.d,
                                     .block_size = g.b,
                                     .candidates = g.c,
                                     .topk = g.k,
                                     .cluster_size = g.m,
                                     .mu_signal = g.mu,
                                     .mu_cluster = g.mu_cluster};
            SCOPED_TRACE(canonical_text(point));
            expect_probability(exact_hit_probability(point), g.log_hit, g.log_miss, 1e-8);
        }
    }
}

TEST(GoldenTest, HitProbabilityOfTheBestSubBlock) {
    for (const auto& g : submean_hits) {
        const RoutingPoint point{.head_dim = g.d,
                                 .block_size = g.b,
                                 .candidates = g.c,
                                 .topk = g.k,
                                 .cluster_size = g.m,
                                 .mu_signal = g.mu,
                                 .mu_cluster = g.mu_cluster,
                                 .scorer = {ScorerKind::submean, g.r}};
        SCOPED_TRACE(canonical_text(point));
        expect_probability(exact_hit_probability(point), g.log_hit, g.log_miss, 1e-8);
    }
}

TEST(GoldenTest, ClopperPearsonIntervals) {
    for (const auto& g : clopper_pearsons) {
        SCOPED_TRACE(testing::Message() << g.x << " of " << g.n);
        const Interval interval = clopper_pearson(g.x, g.n, g.alpha);
        expect_relative(interval.low, g.low, 1e-10);
        expect_relative(interval.high, g.high, 1e-10);
    }
}

TEST(GoldenTest, LikelihoodBands) {
    for (const auto& g : likelihood_bands) {
        SCOPED_TRACE(testing::Message() << g.x << " of " << g.n);
        const Interval interval = likelihood_band(g.x, g.n, g.factor);
        expect_relative(interval.low, g.low, 1e-12);
        expect_relative(interval.high, g.high, 1e-12);
    }
}

TEST(GoldenTest, BinomialPValues) {
    for (const auto& g : two_sideds) {
        SCOPED_TRACE(testing::Message() << g.x << " of " << g.n);
        expect_relative(binomial_two_sided_p(g.x, g.n, g.log_p, g.log_1mp), g.p_value, 1e-9);
    }
}

TEST(GoldenTest, FisherPValues) {
    for (const auto& g : fishers) {
        SCOPED_TRACE(testing::Message() << g.x1 << " of " << g.n1 << ", " << g.x2 << " of " << g.n2);
        expect_relative(fisher_two_sided_p(g.x1, g.n1, g.x2, g.n2), g.p_value, 1e-9);
        expect_relative(compare_counts({.misses = g.x1, .trials = g.n1}, {.misses = g.x2, .trials = g.n2}).p_value,
                        g.p_value, 1e-9);
    }
}

}  // namespace
}  // namespace mobalab::analysis
