// What the CPU kernel changes when it keeps centroids in 16 bits, beside what theory expects.

#include "experiments/probe/rounding_probe.h"

#include <gtest/gtest.h>

#include "tests/sim/statistics.h"

namespace mobalab::experiments {
namespace {

using analysis::CentroidFormat;
using analysis::Interval;
using analysis::RoutingPoint;

RoutingPoint point_of(std::int64_t seq_len, std::int64_t candidates) {
    RoutingPoint point;
    point.head_dim = 64;
    point.block_size = 64;
    point.seq_len = seq_len;
    point.candidates = candidates;
    point.topk = 4;
    return point;
}

double expected(const RoutingPoint& point, double mean, CentroidFormat format) {
    return analysis::changed_rows({.head_dim = point.head_dim,
                                   .block_size = point.block_size,
                                   .candidates = point.candidates,
                                   .seq_len = point.seq_len,
                                   .topk = point.topk,
                                   .shared_mean = mean,
                                   .format = format});
}

Interval measured(const RoutingPoint& point, double mean, CentroidFormat format) {
    return measure_rounding(point, mean, format, sim::testing::test_seed(), 0, 1.0 - sim::testing::kFalseAlarm);
}

class RoundingProbeTest : public testing::TestWithParam<CentroidFormat> {};

// The interval of 16 key sets, wrong with probability 1e-9, meets the expectation within its 5 %; means that are 8
// times smaller or larger are refused, so the power is above 0.99 for an error of centroids that is as far off.
TEST_P(RoundingProbeTest, IsWhatTheoryExpects) {
    const RoutingPoint all = point_of(2048, 31);
    const double mean = GetParam() == CentroidFormat::bf16 ? 10.0 : 80.0;  // about as many rows change
    for (const RoutingPoint& point : {all, point_of(0, 31)}) {
        const Interval seen = measured(point, mean, GetParam());
        const double share = expected(point, mean, GetParam());
        EXPECT_LE(seen.low, 1.05 * share) << seen.value;
        EXPECT_GE(seen.high, 0.95 * share) << seen.value;
        EXPECT_GT(seen.low, 1.05 * expected(point, mean / 8, GetParam())) << seen.value;
        EXPECT_LT(seen.high, 0.95 * expected(point, mean * 8, GetParam())) << seen.value;
    }
}

TEST_P(RoundingProbeTest, HangsOnTheSeedAlone) {
    const RoutingPoint point = point_of(512, 7);
    const auto with = [&](std::uint64_t seed, int threads) {
        return measure_rounding(point, 50.0, GetParam(), seed, threads, 0.95).value;
    };
    EXPECT_EQ(with(1, 1), with(1, 2));
    EXPECT_NE(with(1, 1), with(2, 1));
}

INSTANTIATE_TEST_SUITE_P(Formats, RoundingProbeTest, testing::Values(CentroidFormat::bf16, CentroidFormat::fp16),
                         [](const auto& format) { return std::string(to_string(format.param)); });

TEST(RoundingProbe, WhatNoMemoryHoldsIsRefused) {
    RoutingPoint point = point_of(std::int64_t{1} << 26U, 3);
    try {
        require_rounding_fits(point);
        FAIL() << "nothing was thrown";
    } catch (const analysis::InputError& error) {
        EXPECT_NE(std::string(error.what()).find("nearest valid choice: --seq-len 33554432"), std::string::npos)
            << error.what();
    }
    point.seq_len /= 2;
    EXPECT_NO_THROW(require_rounding_fits(point));
}

TEST(RoundingProbe, NothingChangesWhereAllBlocksAreKept) {
    RoutingPoint point = point_of(256, 3);
    point.topk = 4;
    EXPECT_EQ(measure_rounding(point, 50.0, CentroidFormat::bf16, 1, 0, 0.95).value, 0.0);
    point.topk = 1;
    EXPECT_EQ(measure_rounding(point, 50.0, CentroidFormat::bf16, 1, 0, 0.95).value, 0.0);
}

}  // namespace
}  // namespace mobalab::experiments
