#include "analysis/routing_point.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace mobalab::analysis {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string complaint(const RoutingPoint& point) {
    try {
        validate(point);
    } catch (const InputError& error) {
        return error.what();
    }
    return "";
}

TEST(RoutingPointTest, DefaultsAreValid) {
    EXPECT_EQ(complaint(RoutingPoint{}), "");
}

TEST(RoutingPointTest, EveryRuleNamesValueAndNearestChoice) {
    struct Case {
        std::function<void(RoutingPoint&)> spoil;
        std::string value, nearest;
    };
    const std::vector<Case> cases{
        {[](auto& p) { p.head_dim = 1; }, "head_dim = 1", "nearest valid value is 2"},
        {[](auto& p) { p.block_size = 0; }, "block_size = 0", "nearest valid value is 1"},
        {[](auto& p) { p.candidates = 0; }, "candidates = 0", "nearest valid value is 1"},
        {[](auto& p) { p.candidates = 1'000'001; }, "candidates = 1000001", "nearest valid value is 1000000"},
        {[](auto& p) { p.topk = 0; }, "topk = 0", "nearest valid value is 1"},
        {[](auto& p) { p.topk = 513; }, "topk = 513", "nearest valid value is 512"},
        {[](auto& p) { p.cluster_size = 65; }, "cluster_size = 65", "nearest valid value is 64"},
        {[](auto& p) { p.cluster_size = 0; }, "cluster_size = 0", "nearest valid value is 1"},
        {[](auto& p) { p.mu_signal = -0.25; }, "mu_signal = -0.25", "nearest valid value is 0"},
        {[](auto& p) { p.mu_signal = 1.5; }, "mu_signal = 1.5", "nearest valid value is 1"},
        {[](auto& p) { p.mu_cluster = -1.5; }, "mu_cluster = -1.5", "nearest valid value is -1"},
        {[](auto& p) { p.mu_cluster = std::numeric_limits<double>::quiet_NaN(); }, "mu_cluster = nan", "for example 0"},
        {[](auto& p) { p.mu_signal = std::numeric_limits<double>::infinity(); }, "mu_signal = inf", "value is 1"},
        {[](auto& p) { p.needles = 0; }, "needles = 0", "nearest valid value is 1"},
        {[](auto& p) { p.needles = 513; }, "needles = 513", "nearest valid value is 127"},
        {[](auto& p) { p.key_correlation = -0.1; }, "key_correlation = -0.1", "nearest valid value is 0"},
        {[](auto& p) { p.key_correlation = std::numeric_limits<double>::quiet_NaN(); }, "= nan", "valid value is 0"},
        {[](auto& p) { p.key_correlation = 0.1, p.head_dim = 2; }, "head_dim = 2", "is key_correlation = 0"},
        {[](auto& p) { p.key_conv = 9; }, "key_conv = 9", "nearest valid value is 8"},
        {[](auto& p) { p.key_conv = 4, p.block_size = 3; }, "key_conv = 4", "nearest valid value is 3"},
        {[](auto& p) { p.key_conv_tap = 8.5; }, "key_conv_tap = 8.5", "nearest valid value is 8"},
        {[](auto& p) { p.key_conv = 3, p.model = Model::gaussian; }, "model gaussian", "use key_conv = 0"},
        {[](auto& p) { p.mu_noise = 0.1; }, "mu_noise = 0.1", "use mu_noise = 0, or model gaussian"},
    };
    for (const Case& c : cases) {
        RoutingPoint point;
        c.spoil(point);
        EXPECT_THAT(complaint(point), AllOf(HasSubstr(c.value), HasSubstr(c.nearest)));
    }
}

TEST(RoutingPointTest, LimitsThemselvesAreAllowed) {
    EXPECT_EQ(complaint({.head_dim = 2, .block_size = 1, .candidates = 1'000'000, .topk = 512, .mu_signal = 1.0}), "");
    EXPECT_EQ(
        complaint(
            {.block_size = 8, .candidates = 1, .topk = 1, .cluster_size = 8, .mu_signal = 0.0, .mu_cluster = -1.0}),
        "");
    EXPECT_EQ(complaint({.model = Model::gaussian, .mu_noise = 0.1}), "");
}

TEST(RoutingPointTest, AllBrokenRulesAreReportedOneALine) {
    const std::string text = complaint({.head_dim = 1, .topk = 0, .mu_signal = 2.0});
    EXPECT_THAT(text, AllOf(HasSubstr("head_dim"), HasSubstr("topk"), HasSubstr("mu_signal")));
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
}

TEST(RoutingPointTest, ModelNamesRoundTrip) {
    for (const Model model : {Model::gaussian, Model::gaussian_fixed, Model::sphere, Model::vector}) {
        EXPECT_EQ(parse_model(to_string(model)), model);
    }
    try {
        parse_model("normal");
        FAIL() << "an unknown name was accepted";
    } catch (const InputError& error) {
        EXPECT_THAT(error.what(), AllOf(HasSubstr("'normal'"), HasSubstr("gaussian-fixed"), HasSubstr("vector")));
    }
}

TEST(RoutingPointTest, GoalAndActivationNamesRoundTrip) {
    for (const Goal goal : {Goal::each, Goal::any, Goal::all}) {
        EXPECT_EQ(parse_goal(to_string(goal)), goal);
    }
    for (const Activation activation : {Activation::silu, Activation::none}) {
        EXPECT_EQ(parse_activation(to_string(activation)), activation);
    }
    EXPECT_THROW(parse_goal("some"), InputError);
    EXPECT_THROW(parse_activation("relu"), InputError);
}

TEST(RoutingPointTest, BlocksOfASequence) {
    EXPECT_EQ(num_blocks(1, 64), 1);
    EXPECT_EQ(num_blocks(64, 64), 1);
    EXPECT_EQ(num_blocks(65, 64), 2);
    EXPECT_EQ(num_blocks(std::numeric_limits<std::int64_t>::max(), 2), std::int64_t{1} << 62);
    EXPECT_EQ(candidates_of_last_query(8192, 64), 127);
    EXPECT_EQ(candidates_of_last_query(8193, 64), 128);
    EXPECT_EQ(candidates_of_last_query(10, 64), 0);
    EXPECT_THROW(num_blocks(0, 64), InputError);
    EXPECT_THROW(num_blocks(64, 0), InputError);
}

TEST(RoutingPointTest, CanonicalTextIsTheQuestionAndNothingElse) {
    const RoutingPoint point{.mu_signal = 0.1};
    EXPECT_EQ(canonical_text(point),
              "block_size=64;candidates=127;cluster_size=1;head_dim=64;model=sphere;mu_cluster=0;mu_noise=0;"
              "mu_signal=0.1;topk=8");
    RoutingPoint same = point;
    same.seq_len = 8192;
    same.mu_noise = -0.0;
    EXPECT_EQ(canonical_text(same), canonical_text(point));
    const std::vector<std::function<void(RoutingPoint&)>> changes{
        [](auto& p) { p.model = Model::vector; },
        [](auto& p) { ++p.head_dim; },
        [](auto& p) { ++p.block_size; },
        [](auto& p) { ++p.candidates; },
        [](auto& p) { ++p.topk; },
        [](auto& p) { ++p.cluster_size; },
        [](auto& p) { p.mu_signal = std::nextafter(p.mu_signal, 1.0); },
        [](auto& p) { p.mu_noise = 1e-300; },
        [](auto& p) { p.mu_cluster = 1e-300; },
        [](auto& p) { p.needles = 2; },
        [](auto& p) { p.key_correlation = 1e-300; },
        [](auto& p) { p.key_conv = 1; }};
    for (const auto& change : changes) {
        RoutingPoint other = point;
        change(other);
        EXPECT_NE(canonical_text(other), canonical_text(point));
    }
    EXPECT_TRUE(is_plain(point));
    RoutingPoint beyond{.needles = 3, .goal = Goal::any, .key_correlation = 0.5, .key_conv = 2, .key_conv_tap = -1.0};
    EXPECT_EQ(
        canonical_text(beyond),
        "block_size=64;candidates=127;cluster_size=1;goal=any;head_dim=64;key_conv=2;key_conv_activation=silu;"
        "key_conv_tap=-1;key_correlation=0.5;model=sphere;mu_cluster=0;mu_noise=0;mu_signal=0.8;needles=3;topk=8");
    EXPECT_FALSE(is_plain(beyond));
    beyond = point;
    beyond.goal = Goal::any;    // of one needle
    beyond.key_conv_tap = 3.0;  // of no convolution
    EXPECT_EQ(canonical_text(beyond), canonical_text(point));
}

}  // namespace
}  // namespace mobalab::analysis
