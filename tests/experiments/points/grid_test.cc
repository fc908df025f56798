#include "experiments/points/point_grid.h"

#include <gtest/gtest.h>

#include <cmath>

#include "analysis/paper_formulas.h"
#include "tests/experiments/captured.h"

namespace mobalab::experiments {
namespace {

using analysis::Model;
using analysis::RoutingPoint;

std::vector<RoutingPoint> grid(const std::string& flags) {
    Subcommand command;
    command.name = "test";
    command.flags = point_flags() + needle_flags() + text_flags() + scorer_flags() + key_conv_flags();
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
    EXPECT_EQ(names("--scorer mean,random"), Names{"scorer"});
}

TEST(PointGrid, ScorersAreAnAxis) {
    const std::vector<RoutingPoint> points = grid("--scorer mean,quest,submean-4,random --block-size 16,32");
    ASSERT_EQ(points.size(), 8U);
    EXPECT_EQ(points[0].scorer, analysis::Scorer{});
    EXPECT_EQ(points[2].scorer, (analysis::Scorer{analysis::ScorerKind::submean, 4}));
    EXPECT_EQ(analysis::to_string(points[7].scorer), "random");
    EXPECT_EQ(
        refusal("--scorer mean,quests"),
        "scorer = 'quests': must be one of mean, quest, max, submean-R, random, R the sub-blocks of a block (2, 4, "
        "8, ...)");
    EXPECT_EQ(refusal("--scorer quest,mean,quest"),
              "scorer = quest,mean,quest: quest appears twice; a list names each value once");
    EXPECT_EQ(refusal("--scorer submean-3 --block-size 16"),
              "scorer = submean-3: 3 sub-blocks must divide block_size = 16; nearest valid value is 2");
    EXPECT_EQ(
        refusal("--scorer max --model gaussian"),
        "scorer = max: model gaussian has block scores only, no keys; use scorer = mean or random, or model sphere "
        "or vector or text");
    for (const char* odd :
         {"submean", "submean-1", "submean-04", "submean-", "mean-2", "submean--4", "Quest", "quest-1"}) {
        EXPECT_NE(refusal(std::string("--scorer ") + odd), "accepted") << odd;
    }
}

TEST(PointGrid, ABlockSizeThatIsSolvedForHasNoSubBlocks) {
    Subcommand command;
    command.name = "test";
    command.flags = point_flags() + scorer_flags();
    try {
        point_grid(parse_arguments(command, words("--scorer submean-4")), "block-size");
        FAIL() << "accepted";
    } catch (const analysis::InputError& error) {
        EXPECT_STREQ(error.what(),
                     "scorer = submean-4 with --solve block-size: its sub-blocks divide the block, so that not every "
                     "size is one; nearest valid: mean, or ask for each size with --block-size");
    }
}

TEST(PointGrid, TheoryOfScorersIsExactApproximateOrMissing) {
    const auto column = [](const std::string& name) {
        for (const Column& one :
             theory_columns(grid("--candidates 64 --topk 5 --scorer random,quest,submean-4,mean"))) {
            if (one.name == name) {
                return std::get<std::vector<double>>(one.values);
            }
        }
        return std::vector<double>();
    };
    const std::vector<double> exact = column("miss_probability");
    const std::vector<double> approximate = column("approximate_miss_probability");
    const std::vector<double> snr = column("snr");
    EXPECT_DOUBLE_EQ(exact.at(0), 60.0 / 64.0) << "4 of 64 blocks by chance";
    EXPECT_TRUE(std::isnan(exact.at(1)) && !std::isnan(approximate.at(1))) << "quest has no exact law";
    EXPECT_TRUE(std::isnan(approximate.at(2)) && exact.at(2) > 0.0 && exact.at(2) < exact.at(3));
    EXPECT_TRUE(std::isnan(snr.at(0)) && std::isnan(snr.at(1)) && !std::isnan(snr.at(3))) << "SNR is that of means";
    EXPECT_EQ(theory_columns(grid("")).size(), 6U) << "no column of approximations where nothing has one";
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
              "cluster-size = 17 with block-size = 16: must be at most the block size; nearest valid: 16\n"
              "--skip-impossible leaves out such points, here 1 of 4");
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

PointGrid asked(const std::string& flags) {
    Subcommand command;
    command.name = "test";
    command.flags = point_flags() + needle_flags() + text_flags() + scorer_flags() + key_conv_flags();
    return routing_grid(parse_arguments(command, words(flags)));
}

TEST(PointGrid, ImpossiblePointsAreLeftOutOnRequest) {
    const PointGrid corner = asked("--seq-len 1K:128K:x2 --block-size 16:512:x2 --skip-impossible");
    // Of 8 lengths and 6 sizes those with fewer than 8 blocks go: 1K of 256 and 512, 2K of 512.
    EXPECT_EQ(corner.points.size(), 45U);
    EXPECT_EQ(corner.left_out, 3);
    EXPECT_EQ(corner.first_left_out,
              "topk = 8 with seq-len = 1024 and block-size = 256: must be at most the number of blocks, the own one "
              "included; nearest valid: 4");
    for (const RoutingPoint& point : corner.points) {
        EXPECT_LE(point.topk, point.candidates + 1);
    }
    Table table{.name = "t", .columns = point_columns(corner.points)};
    corner.describe(table);
    EXPECT_EQ(std::get<std::int64_t>(table.attributes.at("left_out")), 3);
    EXPECT_EQ(std::get<std::string>(table.attributes.at("first_left_out")), corner.first_left_out);
    EXPECT_FALSE(table.has("budget"));

    EXPECT_EQ(asked("--topk 2,4 --skip-impossible").left_out, 0);
    EXPECT_EQ(asked("--topk 2,4").task_text(), "") << "the identity of what there was before";
    EXPECT_EQ(refusal("--seq-len 256 --topk 5,6 --skip-impossible")
                  .find("skip-impossible: leaves no point, all 2 are "
                        "impossible:\ntopk = 5 with seq-len = 256"),
              0U);
    EXPECT_EQ(refusal("--head-dim 1,64 --skip-impossible"), "head-dim = 1: must be at least 2; nearest valid: 2")
        << "a value that no point may have";
}

TEST(PointGrid, ABudgetOfKeysMakesTopk) {
    const PointGrid pairs = asked("--budget 1024 --block-size 16:512:x2");
    std::vector<std::int64_t> topk;
    for (const RoutingPoint& point : pairs.points) {
        topk.push_back(point.topk);
    }
    EXPECT_EQ(topk, (std::vector<std::int64_t>{64, 32, 16, 8, 4, 2}));
    EXPECT_EQ(pairs.points[3], grid("--block-size 128")[0]) << "the point itself knows no budget";
    Table table{.name = "t", .columns = point_columns(pairs.points)};
    pairs.describe(table);
    EXPECT_EQ(table.integers("budget"), (std::vector<std::int64_t>(6, 1024)));
    EXPECT_EQ(table.columns[6].name, "budget") << "beside topk";

    EXPECT_EQ(refusal("--budget 1000 --block-size 64"),
              "budget = 1000 with block-size = 64: must be whole blocks; nearest valid: 1024");
    EXPECT_EQ(refusal("--budget 16 --block-size 64"),
              "budget = 16 with block-size = 64: must be whole blocks; nearest valid: 64");
    EXPECT_EQ(refusal("--budget 65536 --block-size 64 --seq-len 1M"),
              "budget = 65536 with block-size = 64: must be at most 512 blocks; nearest valid: 32768");
    EXPECT_EQ(refusal("--budget 1024 --seq-len 512"),
              "budget = 1024 (topk = 16) with seq-len = 512 and block-size = 64: must be at most the number of blocks, "
              "the own one included; nearest valid: 512");
    EXPECT_EQ(refusal("--budget 1024 --topk 8"),
              "budget = 1024, topk = 8: give one of the two (a budget of keys makes topk = budget / block-size)");
    EXPECT_EQ(asked("--budget 1024 --block-size 48,64 --skip-impossible").left_out, 1);
}

class PointsFile : public testing::Test {
protected:
    std::string file(const std::string& text) const {
        spill(path(), text);
        return "--points " + path();
    }
    std::string path() const { return folder_ / "points.csv"; }
    /// Without the path.
    std::string trouble(const std::string& text, const std::string& flags = "") const {
        std::string error;
        try {
            error = refusal(file(text) + " " + flags);
        } catch (const FileError& refused) {
            error = refused.what();
        }
        const std::size_t at = error.find(path());
        return at == std::string::npos ? error : error.replace(at, path().size(), "points.csv");
    }

    TemporaryFolder folder_;
};

TEST_F(PointsFile, ARowIsThePointItsFlagsWouldMake) {
    const std::string flags = "--head-dim 128 --block-size 32 --seq-len 8K --topk 4 --mu-signal 0.7 --cluster-size 2";
    const std::vector<RoutingPoint> rows =
        grid(file("head_dim,block-size,seq_len,topk,mu_signal,cluster_size\n"
                  "128,32,8K,4,0.7,2\n64,16,1e3,8,0.55,1\n"));
    ASSERT_EQ(rows.size(), 2U);
    EXPECT_EQ(rows[0], grid(flags)[0]);
    EXPECT_EQ(rows[1], grid("--head-dim 64 --block-size 16 --seq-len 1000 --topk 8 --mu-signal 0.55")[0]);
    EXPECT_EQ(analysis::canonical_text(rows[0]), analysis::canonical_text(grid(flags)[0]));
}

TEST_F(PointsFile, WhatItHasNoColumnOfComesFromTheFlags) {
    const std::vector<RoutingPoint> points = grid(file("block_size,candidates\n16,20\n32,10\n") + " --topk 2,4");
    ASSERT_EQ(points.size(), 4U);
    EXPECT_EQ(points[1], grid("--block-size 16 --candidates 20 --topk 4")[0]);
    EXPECT_EQ(points[2], grid("--block-size 32 --candidates 10 --topk 2")[0]);
    EXPECT_EQ(grid(file("budget\n256\n512\n") + " --block-size 32,64")[2].topk, 16);
}

TEST_F(PointsFile, IsReadAsSpreadsheetsWriteIt) {
    const std::vector<RoutingPoint> expected = grid("--head-dim 32,64");
    for (const char* text :
         {"head_dim\n32\n64\n", "head_dim\n32\n64", "head_dim\r\n32\r\n64\r\n", "\xEF\xBB\xBFhead_dim\n32\n64\n",
          "\"head_dim\"\n\"32\"\n\"64\"\n", "head_dim\n\n 32 \n\n64\n\n", "head_dim\r32\r64\r"}) {
        EXPECT_EQ(grid(file(text)), expected) << text;
    }
}

TEST_F(PointsFile, MistakesNameTheirPlace) {
    EXPECT_EQ(trouble("head_dim,topk\n64,8\n\n1,8\n"),
              "points.csv, line 4, column head_dim: head-dim = 1: must be at least 2; nearest valid: 2");
    EXPECT_EQ(trouble("head_dim\nwide\n").find("points.csv, line 2, column head_dim: head-dim = wide: must be a whole"),
              0U);
    EXPECT_EQ(trouble("model\nspere\n").find("points.csv, line 2, column model: model = spere: must be one of"), 0U);
    EXPECT_EQ(trouble("head_dim,topk\n64,\n"),
              "points.csv, line 2, column topk: is empty; every row has a value of every column");
    EXPECT_EQ(trouble("topk\n\"4,8\"\n"),
              "points.csv, line 2, column topk: topk = 4,8: a cell holds one value, no list");
    EXPECT_EQ(trouble("head_dim,topk\n64\n"), "points.csv, line 2: has 1 cells where the header has 2");
    EXPECT_EQ(trouble("head_dim,topkk\n64,8\n").find("points.csv, line 1: the column topkk is nothing that a point"),
              0U);
    EXPECT_EQ(trouble("head_dim,head-dim\n64,8\n"), "points.csv, line 1: the column head-dim appears twice");
    EXPECT_EQ(trouble("head_dim\n64\n32\n64\n"),
              "points.csv, line 4: says what line 2 says; a file names each point once");
    EXPECT_EQ(trouble("head_dim\n6\"4\n").find("points.csv, line 2: a quote stands alone"), 0U);
    EXPECT_EQ(trouble("head_dim\n\"64\n").find("points.csv, line 2: a quote stands alone"), 0U);
    EXPECT_EQ(trouble("head_dim\n"), "points.csv: holds no points; below the names of its columns there is one a line");
    EXPECT_EQ(trouble(""), "points.csv: is empty; its first line names the columns, like head_dim,block_size");
    EXPECT_EQ(trouble(std::string("head_dim\n6\0004\n", 13)),
              "points.csv: is no CSV text (it holds zero bytes); save it as UTF-8 CSV");
    EXPECT_EQ(trouble("head_dim\n64\n", "--head-dim 32"),
              "head-dim = 32: is a column of points.csv too; give one of the two");
    EXPECT_EQ(
        trouble("candidates\n64\n", "--seq-len 1K").find("candidates (a column of points.csv), seq-len = 1K: give"),
        0U);
    EXPECT_EQ(trouble("topk,seq_len\n8,8K\n8,256\n"),
              "points.csv, line 3: topk = 8 with seq-len = 256 and block-size = 64: must be at most the number of "
              "blocks, the own one included; nearest valid: 4\n--skip-impossible leaves out such points, here 1 of 2");
    EXPECT_THROW(grid("--points /dev/zero"), FileError);
    EXPECT_THROW(grid("--points " + (folder_ / "none.csv")), FileError);
}

TEST_F(PointsFile, ASimulationOfItHasTheCountsOfAGrid) {
    const std::string rest = " --block-size 16 --candidates 30 --trials 3000 --csv";
    const Captured rows = run_captured(words("simulate " + file("head_dim,topk\n32,2\n32,4\n64,2\n64,4\n") + rest));
    ASSERT_EQ(rows.code, 0) << rows.err;
    EXPECT_EQ(rows.out, run_captured(words("simulate --head-dim 32,64 --topk 2,4" + rest)).out);
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
