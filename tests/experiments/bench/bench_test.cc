#include "experiments/bench/bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/experiments/captured.h"

namespace mobalab::experiments {
namespace {

void nap(int milliseconds) {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

TEST(Bench, TakesTurnsWithThePeerAfterAWarmUp) {
    std::string calls;
    const BenchCase bench{.name = "x",
                          .shape = {},
                          .run = [&] { calls += "s"; },
                          .flops = 1.0,
                          .peer = "p",
                          .run_peer = [&] { calls += "p"; },
                          .peer_flops = 1.0};
    const BenchResult result = measure(bench, {.repeats = 3, .seconds = 10.0});
    EXPECT_EQ(calls, "spspspsp");
    EXPECT_EQ(result.seconds.size(), 3U);
    EXPECT_EQ(result.peer_seconds.size(), 3U);
}

TEST(Bench, StopsEarlyButNotBeforeThreeCalls) {
    const BenchCase slow{.name = "slow", .shape = {}, .run = [] { nap(5); }};
    EXPECT_EQ(measure(slow, {.repeats = 1000, .seconds = 0.0}).seconds.size(), 3U);
    EXPECT_LT(measure(slow, {.repeats = 1000, .seconds = 0.05}).seconds.size(), 12U);
}

TEST(Bench, ComputesRatesAndTheRatio) {
    // Twice the work in half the time of the peer: ratio 4, exact up to the clock's resolution.
    BenchResult result{.measured = {.name = "x",
                                    .shape = {},
                                    .run = {},
                                    .flops = 2e9,
                                    .bytes = 4e9,
                                    .peer = "p",
                                    .run_peer = {},
                                    .peer_flops = 1e9},
                       .seconds = {1.0, 0.5, 0.25},
                       .peer_seconds = {2.0, 1.0, 0.5}};
    const Table table = bench_table({result});
    EXPECT_EQ(table.reals("seconds_median")[0], 0.5);
    EXPECT_EQ(table.reals("seconds_low")[0], 0.25);
    EXPECT_EQ(table.reals("seconds_high")[0], 1.0);
    EXPECT_EQ(table.integers("repeats")[0], 3);
    EXPECT_DOUBLE_EQ(table.reals("gflops")[0], 4.0);
    EXPECT_DOUBLE_EQ(table.reals("gbytes_per_second")[0], 8.0);
    EXPECT_DOUBLE_EQ(table.reals("ratio_to_peer")[0], 4.0);
    result.peer_seconds.clear();
    EXPECT_TRUE(std::isnan(bench_table({result}).reals("ratio_to_peer")[0]));
}

TEST(Bench, TimesEveryKernelAndEngine) {
    const Captured run =
        run_captured(words("bench --head-dim 32 --block-size 16 --seq-len 256 --topk 4 --repeats 3 --json"));
    ASSERT_EQ(run.code, exit_ok) << run.err;
    const nlohmann::json rows = nlohmann::json::parse(run.out);
    ASSERT_EQ(rows.size(), 9U);
    for (const nlohmann::json& row : rows) {
        EXPECT_GT(row.at("seconds_low").get<double>(), 0.0);
        EXPECT_LE(row.at("seconds_low").get<double>(), row.at("seconds_median").get<double>());
        EXPECT_LE(row.at("seconds_median").get<double>(), row.at("seconds_high").get<double>());
        const std::string name = row.at("name");
        EXPECT_EQ(row.at("ratio_to_peer").is_null(), name.starts_with("simulate")) << name;
        EXPECT_EQ(row.at("gflops").is_number(), name == "route" || name.starts_with("attention")) << name;
    }
}

// Useful work counted by hand: 4 blocks of 2, d = 8, topk 2. Queries have 0, 0, 1, 1, 2, 2, 3, 3 candidates and keep
// 1, 2, 3, 4, 3, 4, 3, 4 keys.
TEST(Bench, CountsUsefulOperationsOnly) {
    const std::vector<BenchCase> cases = cpu_kernel_cases({.head_dim = 8, .block_size = 2, .seq_len = 8, .topk = 2});
    EXPECT_EQ(cases[1].name, "route");
    EXPECT_EQ(cases[1].flops, 2.0 * 12.0 * 8.0);
    EXPECT_EQ(cases[2].name, "attention forward");
    EXPECT_EQ(cases[2].flops, 4.0 * 24.0 * 8.0);
}

TEST(Bench, WritesAResultsFile) {
    const TemporaryFolder folder;
    const std::string flags =
        "bench --head-dim 16 --block-size 8 --seq-len 64 --topk 2 --repeats 3 --out " + (folder / "b.h5");
    ASSERT_EQ(run_captured(words(flags)).code, exit_ok);
    const Table table = read_results(folder / "b.h5").table("bench");
    EXPECT_EQ(table.dimension, "measurement");
    EXPECT_EQ(table.texts("name")[1], "route");
    EXPECT_EQ(run_captured(words(flags)).code, exit_error);
}

}  // namespace
}  // namespace mobalab::experiments
