#include "experiments/point_grid.h"

#include <gtest/gtest.h>

#include <cmath>

#include "analysis/paper_formulas.h"
#include "captured.h"

namespace mobalab::experiments {
namespace {

using analysis::Model;
using analysis::RoutingPoint;

std::vector<RoutingPoint> grid(const std::string& flags) {
    Subcommand command;
    command.name = "test";
    command.flags = point_flags() + needle_flags() + key_conv_flags();
    return point_grid(parse_arguments(command, words(flags)));
}

std::string refusal(const std::string& flags) {
    try {
        grid(flags);
    } catch (const analysis::InputError& error) {
        return error.what();
    }
    return "accepted";
}

TEST(PointGrid, TheDefaultsAreThoseOfARoutingPoint) {
    RoutingPoint expected;
    expected.seq_len = 8192;
    ASSERT_EQ(grid(""), std::vector<RoutingPoint>{expected});
}

TEST(PointGrid, EveryFlagReachesItsField) {
    const std::vector<RoutingPoint> points = grid(
        "--model gaussian --head-dim 96 --block-size 48 --candidates 33 --topk 5 --mu-signal 0.7 --mu-noise -0.1 "
        "--mu-cluster 0.3 --cluster-size 6");
    const RoutingPoint expected{.model = Model::gaussian,
                                .head_dim = 96,
                                .block_size = 48,
                                .candidates = 33,
                                .topk = 5,
                                .cluster_size = 6,
                                .mu_signal = 0.7,
                                .mu_noise = -0.1,
                                .mu_cluster = 0.3,
                                .seq_len = 0};
    EXPECT_EQ(points, std::vector<RoutingPoint>{expected});
}

TEST(PointGrid, EveryFlagBeyondThePaperReachesItsField) {
    const std::vector<RoutingPoint> points = grid(
        "--candidates 33 --needles 3 --goal all --key-correlation 0.25 --key-conv 5 --key-conv-tap -0.5 "
        "--key-conv-activation none");
    RoutingPoint expected;
    expected.candidates = 33;
    expected.needles = 3;
    expected.goal = analysis::Goal::all;
    expected.key_correlation = 0.25;
    expected.key_conv = 5;
    expected.key_conv_tap = -0.5;
    expected.key_conv_activation = analysis::Activation::none;
    EXPECT_EQ(points, std::vector<RoutingPoint>{expected});
    EXPECT_EQ(refusal("--candidates 8 --needles 9"), "needles = 9: must be in [1, 8]; nearest valid value is 8");
    EXPECT_EQ(refusal("--goal every"), "goal = every: must be one of each, any, all");
    EXPECT_EQ(refusal("--model gaussian --key-conv 3"),
              "key_conv = 3: model gaussian has block scores only, no keys; use key_conv = 0, or model sphere or "
              "vector");
}

TEST(PointGrid, ColumnsBeyondThePaperAreThereWhereSomePointNeedsThem) {
    const auto names = [](const std::string& flags) {
        std::vector<std::string> all;
        for (const Column& column : point_columns(grid(flags))) {
            all.push_back(column.name);
        }
        all.erase(all.begin(), all.begin() + 11);  // the paper's
        return all;
    };
    using Names = std::vector<std::string>;
    EXPECT_EQ(names(""), Names{});
    EXPECT_EQ(names("--goal any --key-conv-tap 2"), Names{}) << "of one needle and no convolution";
    EXPECT_EQ(names("--needles 1,2"), (Names{"needles", "goal"}));
    EXPECT_EQ(names("--key-correlation 0,0.1"), Names{"key_correlation"});
    EXPECT_EQ(names("--key-conv 0,3"), (Names{"key_conv", "key_conv_tap", "key_conv_activation"}));
}

TEST(PointGrid, WhereThereIsNoExactProbabilityThereIsNaN) {
    const std::vector<Column> columns = theory_columns(grid("--candidates 20 --key-conv 0,3"));
    for (const Column& column : columns) {
        const auto& values = std::get<std::vector<double>>(column.values);
        const bool exact = column.name.find("probability") != std::string::npos;
        EXPECT_FALSE(std::isnan(values[0])) << column.name;
        EXPECT_EQ(std::isnan(values[1]), exact) << column.name;
    }
}

TEST(PointGrid, CandidatesFollowFromTheLength) {
    // ceil(N / B) - 1 blocks lie before the last query's own; by hand.
    const std::vector<RoutingPoint> points = grid("--seq-len 1024,1025,1088 --block-size 64 --topk 2");
    ASSERT_EQ(points.size(), 3U);
    EXPECT_EQ(points[0].candidates, 15);
    EXPECT_EQ(points[1].candidates, 16);
    EXPECT_EQ(points[2].candidates, 16);
    EXPECT_EQ(points[1].seq_len, 1025);
}

TEST(PointGrid, TheLastFlagVariesFastest) {
    const std::vector<RoutingPoint> points = grid("--head-dim 32,64 --topk 2,4 --mu-signal 0.5,0.6");
    ASSERT_EQ(points.size(), 8U);
    EXPECT_EQ(points[0].mu_signal, 0.5);
    EXPECT_EQ(points[1].mu_signal, 0.6);
    EXPECT_EQ(points[1].topk, 2);
    EXPECT_EQ(points[2].topk, 4);
    EXPECT_EQ(points[3].head_dim, 32);
    EXPECT_EQ(points[4].head_dim, 64);
}

TEST(PointGrid, ImpossibleCombinationsAreNamed) {
    EXPECT_EQ(refusal("--seq-len 256 --block-size 64 --topk 5"),
              "topk = 5 with seq-len = 256 and block-size = 64: must be at most the number of blocks, the own one "
              "included; nearest valid: 4");
    EXPECT_EQ(refusal("--seq-len 256 --block-size 64 --topk 4"), "accepted");
    EXPECT_EQ(refusal("--candidates 10 --topk 12"),
              "topk = 12 with candidates = 10: must be at most the number of blocks, the own one included; nearest "
              "valid: 11");
    EXPECT_EQ(refusal("--candidates 10 --topk 11"), "accepted");
    EXPECT_EQ(refusal("--block-size 16,32 --cluster-size 1,17"),
              "cluster-size = 17 with block-size = 16: must be at most the block size; nearest valid: 16");
    EXPECT_EQ(refusal("--seq-len 64 --block-size 64 --topk 1"),
              "seq-len = 64 with block-size = 64: must leave a block before the last query's own; nearest valid: 65");
    EXPECT_EQ(refusal("--seq-len 65 --block-size 64 --topk 1"), "accepted");
    EXPECT_EQ(refusal("--candidates 10 --seq-len 8K"),
              "candidates = 10, seq-len = 8K: give one of the two (candidates of the last query are ceil(seq-len / "
              "block-size) - 1)");
}

TEST(PointGrid, ManyMistakesAreCounted) {
    const std::string text = refusal("--block-size 1:7:+1 --cluster-size 8 --topk 1");
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 5);
    EXPECT_NE(text.find("cluster-size = 8 with block-size = 1: "), std::string::npos);
    EXPECT_NE(text.find("\nand 2 more impossible combinations"), std::string::npos);
}

TEST(PointGrid, AGridHasALimit) {
    EXPECT_EQ(refusal("--mu-signal 0:1:+0.0005 --head-dim 2:1000:+1 --candidates 10 --topk 2"),
              "the lists make more than 1000000 points; a grid holds at most 1000000");
}

TEST(PointGrid, FlagsACommandDoesNotHaveKeepTheirDefaults) {
    Subcommand command;
    command.name = "test";
    command.flags = point_flags_without({"model", "mu-noise", "candidates"});
    const Arguments arguments = parse_arguments(command, {"--head-dim", "32"});
    const std::vector<RoutingPoint> points = point_grid(arguments);
    ASSERT_EQ(points.size(), 1U);
    EXPECT_EQ(points[0].model, Model::sphere);
    EXPECT_EQ(points[0].head_dim, 32);
    EXPECT_THROW(parse_arguments(command, {"--model", "gaussian"}), analysis::InputError);
}

TEST(PointGrid, ColumnsHoldThePointsInOrder) {
    const std::vector<RoutingPoint> points = grid("--model gaussian,sphere --cluster-size 4 --mu-cluster 0.25");
    const Table table{.name = "t", .columns = point_columns(points)};
    EXPECT_EQ(table.texts("model"), (std::vector<std::string>{"gaussian", "sphere"}));
    EXPECT_EQ(table.integers("seq_len"), (std::vector<std::int64_t>{8192, 8192}));
    EXPECT_EQ(table.integers("candidates"), (std::vector<std::int64_t>{127, 127}));
    EXPECT_EQ(table.reals("delta_mu_eff"), (std::vector<double>{0.8 + 3 * 0.25, 0.8 + 3 * 0.25}));
    EXPECT_THROW(table.column("nothing"), std::out_of_range);
}

TEST(PointGrid, TheoryColumnsAreTheAnalysisRooms) {
    const std::vector<RoutingPoint> points = grid("--model gaussian --head-dim 64,128");
    const Table table{.name = "t", .columns = theory_columns(points)};
    for (std::size_t row = 0; row < points.size(); ++row) {
        EXPECT_EQ(table.reals("snr")[row], analysis::snr(points[row]));
        EXPECT_EQ(table.reals("pairwise_miss")[row], analysis::pairwise_miss(points[row]));
        const double hit = table.reals("hit_probability")[row];
        const double miss = table.reals("miss_probability")[row];
        EXPECT_NEAR(hit + miss, 1.0, 1e-12);
        EXPECT_NEAR(std::exp(table.reals("log_miss_probability")[row]), miss, 1e-12);
    }
    EXPECT_GT(table.reals("hit_probability")[1], table.reals("hit_probability")[0]);
}

}  // namespace
}  // namespace mobalab::experiments
