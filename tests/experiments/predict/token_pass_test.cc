#include "experiments/predict/token_pass.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>

#include "analysis/measured_scores/one_pass_law.h"
#include "analysis/routing_point.h"
#include "experiments/predict/block_sample.h"
#include "experiments/predict/longer_text.h"
#include "experiments/predict/routed_scores.h"
#include "experiments/predict/target_groups.h"

namespace mobalab::experiments {
namespace {

HeadScores scores_of(std::int64_t first, std::int64_t rows,
                     const std::function<double(std::int64_t row, std::int64_t position, std::int64_t key)>& logit) {
    HeadScores scores;
    scores.logits.resize(rows, first + rows);
    for (std::int64_t r = 0; r < rows; ++r) {
        scores.positions.push_back(first + r);
        for (std::int64_t key = 0; key < first + rows; ++key) {
            scores.logits(r, key) = static_cast<float>(logit(r, first + r, key));
        }
    }
    return scores;
}

double total_weight(const analysis::TargetPopulation& population) {
    return std::accumulate(population.groups.begin(), population.groups.end(), 0.0,
                           [](double sum, const analysis::TargetGroup& group) { return sum + group.weight; });
}

TEST(TokenPass, ATrendOfDistanceIsFoundAndLeavesNothing) {
    const HeadScores scores = scores_of(600, 64, [](auto, std::int64_t position, std::int64_t key) {
        return -std::log2(static_cast<double>(std::max<std::int64_t>(1, position - key)));
    });
    const auto statistics = token_statistics(scores, std::vector<std::int64_t>{16});
    // The spread of log2(distance) over 1 ... n tends to 1 / ln 2.
    const double step = analysis::trend_at(statistics.trend, 32.0) - analysis::trend_at(statistics.trend, 64.0);
    EXPECT_NEAR(step, std::log(2.0), 0.03);
    EXPECT_NEAR(analysis::trend_at(statistics.trend, 100.0) - analysis::trend_at(statistics.trend, 400.0), 2.0 * step,
                0.05);
    for (const double variance : statistics.window_variance.at(3)) EXPECT_LT(variance, 0.01);
}

TEST(TokenPass, TheNeedlesProfileIsWhatWasPlanted) {
    // Key 100 and its two neighbours stand out of a noise of deviation 1 by 6 and 3: standardised over 500 to 563 keys
    // by 6 and 3 within a tenth, whatever the seed.
    std::mt19937_64 random(77);
    std::normal_distribution<double> normal;
    const HeadScores scores = scores_of(500, 64, [&](auto, auto, std::int64_t key) {
        const double planted = key == 100 ? 6.0 : (key == 99 || key == 101 ? 3.0 : 0.0);
        return planted + (planted == 6.0 ? 0.0 : normal(random));
    });
    const auto statistics = token_statistics(scores, std::vector<std::int64_t>{16, 64, 256});
    EXPECT_FALSE(statistics.needles.contains(256));  // no row has a key before its last three blocks
    for (const std::int64_t size : {16, 64}) {
        const analysis::TargetPopulation& population = statistics.needles.at(size);
        EXPECT_NEAR(total_weight(population), 1.0, 1e-12);
        EXPECT_EQ(population.first_token, 0.0);
        double centre = 0.0;
        double beside = 0.0;
        for (const analysis::TargetGroup& group : population.groups) {
            for (const double distance : group.distances) {
                EXPECT_GE(distance, 400.0);
                EXPECT_LE(distance, 463.0);
            }
            centre += group.weight * group.profile[0];
            beside += 0.5 * group.weight * (group.profile[1] + group.profile[analysis::offset_bins + 1]);
        }
        EXPECT_NEAR(centre, 6.0, 0.5) << "block " << size;
        EXPECT_NEAR(beside, 3.0, 0.6) << "block " << size;
    }
}

TEST(TokenPass, MassesAreSharedOutExactly) {
    constexpr std::uint64_t seed = 5;
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    const HeadScores scores =
        scores_of(300, 64, [&](auto, auto, std::int64_t key) { return 1.5 * normal(random) + (key == 0 ? 4.0 : 0.0); });
    const std::int64_t size = 16;
    double first = 0.0;
    double far = 0.0;  // tokens at distance 64 and more
    for (std::size_t r = 0; r < 64; ++r) {
        const std::int64_t position = scores.positions[r];
        double past = 0.0;
        double beyond = 0.0;
        for (std::int64_t key = 0; key < position / size * size; ++key) {
            const double mass = std::exp(static_cast<double>(scores.logits(static_cast<Eigen::Index>(r), key)));
            past += mass;
            beyond += key > 0 && position - key >= 64 ? mass : 0.0;
        }
        first += std::exp(static_cast<double>(scores.logits(static_cast<Eigen::Index>(r), 0))) / past / 64;
        far += beyond / past / 64;
    }
    const auto population = token_statistics(scores, std::vector<std::int64_t>{size}).masses.at(size);
    EXPECT_NEAR(total_weight(population) + population.first_token, 1.0, 1e-4);  // groups of no weight are left out
    // Own blocks are cut out of an octave by which of its two tokens lie in them, so the whole is right to a few
    // percent.
    EXPECT_NEAR(population.first_token, first, 0.03);
    double found = 0.0;
    for (const analysis::TargetGroup& group : population.groups) {
        if (group.distances.front() >= 64.0) found += group.weight;
    }
    EXPECT_NEAR(found, far, 0.03) << "seed " << seed;
}

TEST(TokenPass, TheLawTakesWhatThePassMakes) {
    std::mt19937_64 random(9);
    std::normal_distribution<double> normal;
    const HeadScores scores = scores_of(200, 64, [&](auto, auto, auto) { return normal(random); });
    const auto statistics = token_statistics(scores, std::vector<std::int64_t>{8, 32});
    const analysis::OnePassLaw law(statistics);
    // Independent keys: a block of 8 has a variance of 1/8.
    EXPECT_NEAR(law.rivals(8, 20)[4].sd, std::sqrt(1.0 / 8.0), 0.03);
    EXPECT_NEAR(law.rivals(8, 20)[4].mean, 0.0, 0.05);
}

TEST(TokenPass, RowsThatDoNotDifferSayNothing) {
    const HeadScores scores = scores_of(100, 64, [](auto, auto, auto) { return 0.25; });
    EXPECT_THROW(token_statistics(scores, std::vector<std::int64_t>{16}), analysis::InputError);
}

TEST(MomentsOf, GapsAreLeftOutOfPairs) {
    constexpr double gap = std::numeric_limits<double>::quiet_NaN();
    const std::vector<std::vector<double>> vectors = {{1.0, 2.0, gap}, {3.0, gap, gap}, {5.0, 6.0, gap}};
    const ProfileMoments moments = moments_of(vectors, std::vector<double>{1.0, 2.0, 1.0});
    EXPECT_DOUBLE_EQ(moments.mean[0], 3.0);
    EXPECT_DOUBLE_EQ(moments.mean[1], 4.0);
    EXPECT_EQ(moments.mean[2], 0.0);
    EXPECT_DOUBLE_EQ(moments.covariance[0], 2.0);  // (4 + 0 + 4) / 4
    EXPECT_DOUBLE_EQ(moments.covariance[1], 4.0);  // over the first and the last
    EXPECT_DOUBLE_EQ(moments.covariance[3], 4.0);
    EXPECT_EQ(moments.covariance[8], 0.0);
}

TEST(BlockSample, StandardisesWithinTheRowAndWeighsByMass) {
    // One row at position 7 of blocks of 2: candidates 0, 1, 2; the needle is among keys 1 ... 1.
    HeadScores scores;
    scores.logits.resize(1, 8);
    scores.logits << 1.0F, 3.0F, 0.0F, 2.0F, 5.0F, 1.0F, 9.0F, 0.5F;
    scores.positions = {7};
    const double means[] = {2.0, 1.0, 3.0};  // of the blocks; mean 2, deviation sqrt(2/3)
    const BlockSample needle = block_sample(scores, 2, false);
    ASSERT_EQ(needle.targets.size(), 1U);
    EXPECT_NEAR(needle.targets[0].score, 0.0, 1e-12);
    ASSERT_EQ(needle.rivals.size(), 2U);
    EXPECT_NEAR(needle.rivals[0].score, -std::sqrt(1.5), 1e-6);
    EXPECT_NEAR(needle.rivals[1].score, std::sqrt(1.5), 1e-6);
    const BlockSample mass = block_sample(scores, 2, true);
    ASSERT_EQ(mass.targets.size(), 3U);
    const double of_block[] = {std::exp(1.0) + std::exp(3.0), std::exp(0.0) + std::exp(2.0),
                               std::exp(5.0) + std::exp(1.0)};
    const double past = of_block[0] + of_block[1] + of_block[2];
    for (std::size_t j = 0; j < 3; ++j) {
        EXPECT_NEAR(mass.targets[j].weight, of_block[j] / past, 1e-6);
        EXPECT_NEAR(mass.rivals[j].weight, 1.0 - of_block[j] / past, 1e-6);
        EXPECT_NEAR(mass.targets[j].score, (means[j] - 2.0) * std::sqrt(1.5), 1e-6);
    }
    const analysis::StandardisedSignal signal = standardised(needle);
    EXPECT_NEAR(signal.a, 0.0, 1e-12);
    EXPECT_NEAR(signal.r, 0.0, 1e-12);
    EXPECT_TRUE(block_sample(scores, 4, false).targets.empty());  // one candidate
}

/// One row at position 9 of blocks of 2, candidates 0 ... 3 with means 2, 1, 3, 3; the needle, key 3, is in block 1.
HeadScores one_row() {
    HeadScores scores;
    scores.logits.resize(1, 10);
    scores.logits << 2.5F, 1.5F, -0.5F, 2.5F, 5.0F, 1.0F, 2.0F, 4.0F, 9.0F, 0.5F;
    scores.positions = {9};
    return scores;
}

TEST(RoutedShares, RouteTheHigherOfEqualBlocksAndKeepTheFirst) {
    const HeadScores scores = one_row();
    double mass[4] = {};
    double past = 0.0;
    for (Eigen::Index key = 0; key < 8; ++key) {
        mass[key / 2] += std::exp(static_cast<double>(scores.logits(0, key)));
        past += std::exp(static_cast<double>(scores.logits(0, key)));
    }
    const auto setting = [](std::int64_t topk, bool keep_first) {
        return RouteSetting{{.block_size = 2, .router = "mean"}, topk, keep_first};
    };
    const std::vector<RouteSetting> settings = {setting(1, false), setting(2, false), setting(3, true),
                                                setting(4, true),  setting(4, false), setting(5, false)};
    const double recall[] = {0.0, mass[3], mass[0] + mass[3], mass[0] + mass[3] + mass[2], mass[3] + mass[2] + mass[0],
                             past};
    const auto shares = routed_shares(scores, settings);
    for (std::size_t i = 0; i < settings.size(); ++i) {
        EXPECT_NEAR(shares[i].mass_recall, recall[i] / past, 1e-6) << "setting " << i;
        EXPECT_EQ(shares[i].needle_hit, i == 5 ? 1.0 : 0.0) << "setting " << i;
        EXPECT_EQ(shares[i].keeps_all, i == 5);
    }
}

TEST(LongerText, IsToldWhereLawAndShortTextAreNear) {
    const HeadScores scores = one_row();
    const std::vector<RouteSetting> settings(3, {{.block_size = 2, .router = "mean"}, 2, false});
    const double recall = routed_shares(scores, settings)[0].mass_recall;
    constexpr double none = std::numeric_limits<double>::quiet_NaN();
    const std::vector<Prediction> law = {{0.1, recall + 0.08}, {0.2, recall - 0.2}, {none, none}};
    const auto told = predict_longer(law, scores, settings);
    EXPECT_EQ(told[0].prediction.needle_hit, 0.0);  // the short text's
    EXPECT_NEAR(told[0].margin.needle_hit, 0.14 + 0.05, 1e-12);
    EXPECT_NEAR(told[0].prediction.mass_recall, recall + 0.04, 1e-12);
    EXPECT_NEAR(told[0].margin.mass_recall, 0.14 + 0.04, 1e-12);
    for (std::size_t i = 1; i < 3; ++i) {
        EXPECT_TRUE(std::isnan(told[i].prediction.needle_hit));
        EXPECT_TRUE(std::isnan(told[i].prediction.mass_recall));
        EXPECT_TRUE(std::isnan(told[i].margin.mass_recall));
    }
}

TEST(PredictionRows, AreEvenlySpreadOverWhatIsNotMeasured) {
    std::vector<bool> measured(2000, false);
    std::fill_n(measured.begin() + 500, 1000, true);
    const std::vector<std::int64_t> rows = prediction_rows(0, measured);
    EXPECT_EQ(rows.size(), 512U);
    for (std::size_t i = 0; i < rows.size(); ++i) {
        EXPECT_FALSE(measured[static_cast<std::size_t>(rows[i])]);
        EXPECT_GE(rows[i], i == 0 ? 2 : rows[i - 1] + 1);
    }
    EXPECT_LT(rows.front(), 6);
    EXPECT_GT(rows.back(), 1990);
    EXPECT_TRUE(prediction_rows(0, std::vector<bool>(65, false)).empty());  // positions 0 and 1 know nothing
    EXPECT_EQ(prediction_rows(2, std::vector<bool>(64, false)).size(), 64U);
}

}  // namespace
}  // namespace mobalab::experiments
