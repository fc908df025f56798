#include "analysis/paper_formulas.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace mobalab::analysis {
namespace {

TEST(PaperFormulasTest, SnrIsTheSignalOverTheSpreadOfADifference) {
    // delta_mu_eff = 0.5 + 3 * 0.25 = 1.25, sqrt(64 / (2 * 32)) = 1.
    EXPECT_DOUBLE_EQ(snr({.block_size = 32, .cluster_size = 4, .mu_signal = 0.5, .mu_cluster = 0.25}), 1.25);
    // The same with everything moved by mu_noise.
    EXPECT_NEAR(snr({.model = Model::gaussian,
                     .block_size = 32,
                     .cluster_size = 4,
                     .mu_signal = 0.6,
                     .mu_noise = 0.1,
                     .mu_cluster = 0.35}),
                1.25, 1e-15);
}

TEST(PaperFormulasTest, PairwiseMissIsTheNormalTail) {
    EXPECT_NEAR(pairwise_miss({.block_size = 32, .mu_signal = 0.0}), 0.5, 1e-16);
    EXPECT_NEAR(pairwise_miss({.block_size = 32, .mu_signal = 1.0}), 0.15865525393145705, 1e-16);
    // Phi(-20), a long way past where 1 - Phi(20) is 0.
    EXPECT_NEAR(pairwise_miss({.head_dim = 25600, .block_size = 32, .mu_signal = 1.0}) / 2.7536241186062337e-89, 1.0,
                1e-12);
}

TEST(PaperFormulasTest, ThresholdRule) {
    EXPECT_NEAR(reliable_snr_threshold({.candidates = 1024, .topk = 9}), 2.41755901623650, 1e-11);
    EXPECT_EQ(reliable_snr_threshold({.candidates = 4, .topk = 1}), std::numeric_limits<double>::infinity());
    EXPECT_EQ(reliable_snr_threshold({.candidates = 4, .topk = 5}), -std::numeric_limits<double>::infinity());
    EXPECT_EQ(reliable_snr_threshold({.candidates = 4, .topk = 9}), -std::numeric_limits<double>::infinity());
}

TEST(PaperFormulasTest, BadPointsAreRefused) {
    EXPECT_THROW(snr({.head_dim = 1}), InputError);
    EXPECT_THROW(pairwise_miss({.block_size = 0}), InputError);
    EXPECT_THROW(reliable_snr_threshold({.topk = 0}), InputError);
}

TEST(PaperFormulasTest, AreOfScorerMeanAlone) {
    RoutingPoint point;
    for (const char* scorer : {"quest", "max", "submean-4", "random"}) {
        point.scorer = parse_scorer(scorer);
        EXPECT_TRUE(std::isnan(snr(point))) << scorer;
        EXPECT_TRUE(std::isnan(pairwise_miss(point))) << scorer;
        EXPECT_TRUE(std::isnan(reliable_snr_threshold(point))) << scorer;
    }
}

}  // namespace
}  // namespace mobalab::analysis
