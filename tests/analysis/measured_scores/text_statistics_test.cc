#include "analysis/measured_scores/text_statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <string>

#include "analysis/measured_scores/one_pass_law.h"
#include "analysis/text_keys.h"

namespace mobalab::analysis {
namespace {

using ::testing::HasSubstr;

const RoutingPoint plain{
    .model = Model::text, .head_dim = 64, .block_size = 16, .candidates = 63, .topk = 4, .mu_signal = 0.6};

RoutingPoint lasting() {
    RoutingPoint point = plain;
    point.key_correlation = 0.5;
    point.key_memory = 16;
    return point;
}

/// Independent keys, all channels alike: x are standard normals but for the needle, at mu sqrt(d) E|x|.
TEST(TextStatistics, OfPlainKeysAreThoseOfIndependentNormals) {
    const TokenStatistics statistics = text_statistics(plain);
    for (const double mean : statistics.trend) EXPECT_NEAR(mean, 0.0, 1e-12);
    double length = 1.0;
    for (const std::vector<double>& variances : statistics.window_variance) {
        for (const double variance : variances) EXPECT_NEAR(variance, 1.0 / length, 1e-9);
        length *= 2.0;
    }
    const TargetPopulation& needles = statistics.needles.at(16);
    double weight = 0.0;
    for (const TargetGroup& group : needles.groups) {
        weight += group.weight;
        EXPECT_NEAR(group.profile[0], 0.6 * std::sqrt(64.0) * (1.0 - 1.0 / (4.0 * 64.0)), 0.01);
        for (std::size_t bin = 1; bin < group.profile.size(); ++bin) EXPECT_NEAR(group.profile[bin], 0.0, 1e-12);
        EXPECT_NEAR(group.covariance[1 * profile_size + 1], 1.0, 1e-9);
        EXPECT_NEAR(group.covariance[3 * profile_size + 3], 0.25, 1e-9) << "of the mean of offsets 4 ... 7";
        EXPECT_NEAR(group.covariance[1 * profile_size + 2], 0.0, 1e-9);
    }
    EXPECT_NEAR(weight, 1.0, 1e-12);
    EXPECT_NEAR(statistics.first_covariance[0], 1.0, 1e-9);
}

/// Turns aside (offset 1 in the slow pairs), what neighbours have of the needle is C(l) of it.
TEST(TextStatistics, MemoryIsInTheProfileAndInTheWindows) {
    const RoutingPoint point = lasting();
    const TextKeys keys(point);
    const TokenStatistics statistics = text_statistics(point);
    const TargetGroup& group = statistics.needles.at(16).groups.back();
    double turned = 0.0;  // mean of cos w over the pairs, as each has the same share of the needle
    for (const double frequency : keys.frequencies) turned += std::cos(frequency) / 32.0;
    EXPECT_NEAR(group.profile[1] / group.profile[0], keys.autocorrelation(1) * turned, 0.02);
    EXPECT_NEAR(group.profile[1], group.profile[offset_bins + 1], 0.02 * group.profile[0]) << "the same on both sides";
    EXPECT_NEAR(statistics.window_variance[1][3], 0.5 * (1.0 + keys.autocorrelation(1) * turned), 0.01);
}

TEST(TextStatistics, TheMeanMakesATrendAndTheSinkAFirstToken) {
    RoutingPoint point = plain;
    point.key_mean = 0.9;
    point.query_mean = 0.8;
    const TokenStatistics trending = text_statistics(point);
    EXPECT_GT(trending.trend.front(), 1.0);
    EXPECT_LT(trending.trend.back(), 0.0);
    point.key_mean = 0.0;
    point.sink = 30.0;
    EXPECT_NEAR(text_statistics(point).first_mean[0], 30.0 / std::sqrt(64.0) / std::sqrt(1.0 / 62.0), 0.1);
}

TEST(TextStatistics, FeedTheOnePassLaw) {
    const TokenStatistics statistics = text_statistics(lasting());
    const std::vector<double> hits = OnePassLaw(statistics).hits(Target::needle, 16, 63, 63);
    EXPECT_TRUE(std::is_sorted(hits.begin(), hits.end()));
    EXPECT_NEAR(hits.back(), 1.0, 1e-9);
}

TEST(TextStatistics, WhatCannotBeDerivedIsRefused) {
    const auto refusal = [](RoutingPoint point, void (*change)(RoutingPoint&)) -> std::string {
        change(point);
        try {
            text_statistics(point);
        } catch (const InputError& error) {
            return error.what();
        }
        return "";
    };
    EXPECT_THAT(refusal(plain, [](auto& p) { p.model = Model::sphere; }), HasSubstr("nearest valid: text"));
    EXPECT_THAT(refusal(plain, [](auto& p) { p.head_dim = 1026; }), HasSubstr("nearest valid value is 1024"));
    EXPECT_THAT(refusal(plain, [](auto& p) { p.block_size = 1; }), HasSubstr("nearest valid value is 2"));
    EXPECT_THAT(refusal(plain, [](auto& p) { p.candidates = 4096; }), HasSubstr("nearest valid value is 4095"));
    EXPECT_THAT(refusal(plain, [](auto& p) { p.sink = -1.0; }), HasSubstr("sink = -1"));
}

}  // namespace
}  // namespace mobalab::analysis
