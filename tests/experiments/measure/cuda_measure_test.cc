// The meter of a head on the device beside the one on the CPU; skipped with a message where there is no device.
// For compute-sanitizer: --gtest_filter=CudaMeasure.Small*
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "experiments/base/check.h"
#include "experiments/measure/head_meter.h"
#include "tests/experiments/measure/meter_difference.h"
#include "tests/experiments/measure/random_head.h"

namespace mobalab::experiments {
namespace {

using kernels::Centroids;
using kernels::DataType;
using testing::HasSubstr;
using testing_support::difference;
using testing_support::HeadShape;
using testing_support::random_head;
using testing_support::rows_of;

class CudaMeasure : public testing::Test {
protected:
    void SetUp() override {
        if (const kernels::Status status = kernels::backend_available(kernels::Backend::cuda); !status.ok()) {
            GTEST_SKIP() << status.message;
        }
        cuda_ = cuda_head_meter();
        cpu_ = cpu_head_meter(0);
    }

    void expect_agreement(const HeadShape& shape, const std::vector<RouteSetting>& settings, std::uint64_t seed) {
        const HeadTensors head = random_head(shape, seed);
        const HeadOutcomes expected = cpu_->measure(head, settings, 77);
        const HeadOutcomes seen = cuda_->measure(head, settings, 77);
        EXPECT_EQ(seen.rows, shape.rows);
        EXPECT_EQ(seen.q_start, shape.q_start);
        EXPECT_EQ(difference(seen, expected, settings, head), "")
            << "d " << shape.head_dim << ", rows " << shape.rows << " from " << shape.q_start << ", "
            << to_string(shape.dtype) << ", seed " << seed;
    }

    std::unique_ptr<HeadMeter> cuda_, cpu_;
};

/// Every router at these block sizes, with several topk and with keep_first.
std::vector<RouteSetting> all_routers(const std::vector<std::int64_t>& block_sizes) {
    std::vector<RouteSetting> settings;
    for (const std::int64_t block : block_sizes) {
        const auto add = [&](const ScoreSetting& score, std::int64_t topk, bool keep_first) {
            settings.push_back({.score = score, .topk = topk, .keep_first = keep_first});
        };
        for (const std::string router : {"mean", "max", "quest", "random", "window", "cum2", "oracle"}) {
            const ScoreSetting score{.block_size = block, .router = router};
            add(score, 4, false);
            add(score, 2, true);
            add(score, 9, true);
        }
        const ScoreSetting mean{.block_size = block, .router = "mean"};
        add(mean, 1, false);
        add(mean, 20, false);
        add(mean, 64, false);
        add({.block_size = block, .router = "mean", .centroids = Centroids::fp32}, 5, false);
        for (const std::int64_t parts : {2, 4, 8, 16}) {
            add({.block_size = block, .router = "submean", .sub_blocks = parts}, 3, parts == 4);
        }
    }
    return settings;
}

// The comparison itself, on every machine: a meter agrees with itself, and each wrong number is found.
TEST(MeterDifference, FindsWrongNumbers) {
    const HeadShape shape{.head_dim = 64, .rows = 70, .q_start = 1100, .value_dim = 64};
    const HeadTensors head = random_head(shape, 1);
    const std::vector<RouteSetting> settings = all_routers({32});
    const HeadOutcomes right = cpu_head_meter(1)->measure(head, settings, 77);
    EXPECT_EQ(difference(right, right, settings, head), "");
    const auto finds = [&](const auto& spoil) {
        HeadOutcomes wrong = right;
        spoil(wrong);
        return !difference(wrong, right, settings, head).empty();
    };
    static constexpr float none = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(finds([](HeadOutcomes& o) { o.distant_key[69] -= 1; }));
    EXPECT_TRUE(finds([](HeadOutcomes& o) { o.dense_norm[3] *= 1.01F; }));
    EXPECT_TRUE(finds([](HeadOutcomes& o) { o.blocks.at(32).past_mass[5] += 1e-3F; }));
    EXPECT_TRUE(finds([](HeadOutcomes& o) { o.blocks.at(32).first_mass_no0[5] = none; }));
    EXPECT_TRUE(finds([](HeadOutcomes& o) { o.blocks.at(32).needle_key[0] = -1; }));
    EXPECT_TRUE(finds([](HeadOutcomes& o) { o.settings[0].routed_mass[7] += 1e-3F; }));
    EXPECT_TRUE(finds([](HeadOutcomes& o) { o.settings[0].output_error[7] = none; }));
    EXPECT_TRUE(finds([](HeadOutcomes& o) { std::fill_n(o.settings[1].selection.begin(), 30, 3); }));
    EXPECT_TRUE(finds([](HeadOutcomes& o) { std::fill_n(o.settings[0].margin.begin(), 3, none); }));
    for (const auto& [score, outcomes] : right.scores) {
        EXPECT_TRUE(finds([&](HeadOutcomes& o) { std::fill_n(o.scores.at(score).needle_score.begin(), 3, 9.0F); }));
        EXPECT_TRUE(finds([&](HeadOutcomes& o) {
            for (float& x : o.scores.at(score).deviation) x *= 1.01F;
        }));
        EXPECT_TRUE(finds([&](HeadOutcomes& o) { o.scores.at(score).distances.sum[1] += 10.0; }));
        EXPECT_TRUE(finds([&](HeadOutcomes& o) { ++o.scores.at(score).distances.count[1]; }));
    }
}

// One tile and a bit, with distant keys, in both dtypes: all kernels in a second, for compute-sanitizer.
TEST_F(CudaMeasure, SmallHeadAgreesWithTheCpu) {
    for (const DataType dtype : {DataType::bf16, DataType::fp16}) {
        const HeadShape shape{
            .head_dim = 64, .rows = 70, .q_start = 1100, .later_keys = 5, .value_dim = 64, .dtype = dtype};
        expect_agreement(shape, all_routers({16, 64}), 1);
    }
}

// Ragged last blocks, first rows without candidates, rows that fill no tile, every width and block size.
TEST_F(CudaMeasure, EveryShapeAgreesWithTheCpu) {
    std::vector<HeadShape> shapes = {
        {.head_dim = 32, .rows = 100, .q_start = 0},
        {.head_dim = 32, .rows = 1300, .q_start = 0, .value_dim = 32},
        {.head_dim = 64, .rows = 333, .q_start = 1500, .later_keys = 37, .value_dim = 64},
        {.head_dim = 64, .rows = 65, .q_start = 2047, .value_dim = 200},
        {.head_dim = 96, .rows = 129, .q_start = 2047, .value_dim = 96},
        {.head_dim = 128, .rows = 700, .q_start = 1001, .later_keys = 1, .value_dim = 128},
        {.head_dim = 128, .rows = 64, .q_start = 20000, .value_dim = 40},
        {.head_dim = 256, .rows = 190, .q_start = 1300, .later_keys = 64, .value_dim = 256},
    };
    for (HeadShape& shape : shapes) {
        const bool long_text = shape.q_start > 10000;
        for (const DataType dtype : {DataType::bf16, DataType::fp16}) {
            shape.dtype = dtype;
            const std::vector<std::int64_t> blocks = long_text                  ? std::vector<std::int64_t>{256, 512}
                                                     : shape.head_dim % 64 == 0 ? std::vector<std::int64_t>{16, 128}
                                                                                : std::vector<std::int64_t>{32, 64};
            expect_agreement(shape, all_routers(blocks), 2);
        }
    }
}

TEST_F(CudaMeasure, SingleRowsAgreeWithTheCpu) {
    for (const std::int64_t position : {0, 1, 15, 16, 48, 63, 64, 1024, 1025, 1026, 1039, 1040, 1041, 2048, 4095}) {
        const HeadShape shape{.head_dim = 64, .rows = 1, .q_start = position, .value_dim = 64};
        expect_agreement(shape, all_routers({16, 64}), 3);
    }
}

// Scores up to 100 and more: nothing overflows.
TEST_F(CudaMeasure, ExtremeScoresAgreeWithTheCpu) {
    for (const double spread : {0.01, 25.0}) {
        const HeadShape shape{.head_dim = 128, .rows = 200, .q_start = 1500, .value_dim = 128, .spread = spread};
        expect_agreement(shape, all_routers({16, 64}), 4);
    }
}

TEST_F(CudaMeasure, AScaleOfItsOwnAgreesWithTheCpu) {
    const HeadShape shape{.head_dim = 64, .rows = 200, .q_start = 1100, .value_dim = 64, .scale = 0.3};
    expect_agreement(shape, all_routers({32}), 5);
}

// Equal keys: the lowest key is the needle, the highest blocks win, and scores have no spread. Sums are exact.
TEST_F(CudaMeasure, TiesAreBrokenAsOnTheCpu) {
    constexpr std::int64_t d = 64, rows = 300, start = 1000;
    std::vector<float> q(rows * d), k((start + rows) * d);
    for (std::size_t i = 0; i < q.size(); ++i) q[i] = static_cast<float>(i * 7 % 5) - 2.0F;
    for (std::size_t i = 0; i < k.size(); ++i) k[i] = static_cast<float>(i % d * 3 % 7) - 3.0F;
    const HeadTensors head{.q = rows_of(q, d, DataType::bf16),
                           .k = rows_of(k, d, DataType::bf16),
                           .v = {},
                           .q_start = start,
                           .scale = 0.125};
    std::vector<RouteSetting> settings;
    for (const std::string router : {"mean", "max", "quest", "window", "cum2"}) {
        for (const bool keep_first : {false, true}) {
            settings.push_back({.score = {.block_size = 16, .router = router}, .topk = 7, .keep_first = keep_first});
        }
    }
    const HeadOutcomes expected = cpu_->measure(head, settings, 1), seen = cuda_->measure(head, settings, 1);
    EXPECT_EQ(seen.distant_key, expected.distant_key);
    EXPECT_EQ(seen.blocks.at(16).needle_key, expected.blocks.at(16).needle_key);
    EXPECT_EQ(std::count(seen.blocks.at(16).needle_key.begin(), seen.blocks.at(16).needle_key.end(), 1), rows);
    for (std::size_t i = 0; i < settings.size(); ++i) {
        const RowOutcomes& outcome = seen.settings[i];
        EXPECT_EQ(outcome.selection, expected.settings[i].selection) << testing_support::name_of(settings[i]);
        EXPECT_EQ(outcome.selection[0], settings[i].keep_first ? 0 : start / 16 - 1);
    }
    for (const auto& [score, outcomes] : seen.scores) {
        for (const float deviation : outcomes.deviation) EXPECT_TRUE(std::isnan(deviation)) << score.router;
        EXPECT_TRUE(outcomes.distances.count.empty()) << score.router;
    }
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

bool same_bits(const RowOutcomes& a, const RowOutcomes& b) {
    return same_bits(a.selection, b.selection) && same_bits(a.routed_mass, b.routed_mass) &&
           same_bits(a.routed_mass_no0, b.routed_mass_no0) && same_bits(a.margin, b.margin) &&
           same_bits(a.rounding_changed, b.rounding_changed) && same_bits(a.output_error, b.output_error);
}

bool same_bits(const BlockOutcomes& a, const BlockOutcomes& b) {
    return same_bits(a.past_mass, b.past_mass) && same_bits(a.past_mass_no0, b.past_mass_no0) &&
           same_bits(a.first_mass, b.first_mass) && same_bits(a.first_mass_no0, b.first_mass_no0) &&
           same_bits(a.needle_key, b.needle_key);
}

bool same_rows(const ScoreOutcomes& a, const ScoreOutcomes& b) {
    return same_bits(a.deviation, b.deviation) && same_bits(a.needle_score, b.needle_score) &&
           same_bits(a.mass_score, b.mass_score) && same_bits(a.mass_score_squared, b.mass_score_squared);
}

/// Empty: every number of the rows is the same, bit for bit.
std::string other_bits(const HeadOutcomes& a, const HeadOutcomes& b, const std::vector<RouteSetting>& settings) {
    std::string lines;
    if (!same_bits(a.distant_key, b.distant_key)) lines += "distant_key\n";
    if (!same_bits(a.dense_norm, b.dense_norm)) lines += "dense_norm\n";
    for (const auto& [block_size, blocks] : a.blocks) {
        if (!same_bits(blocks, b.blocks.at(block_size))) lines += "B " + std::to_string(block_size) + "\n";
    }
    for (const auto& [score, outcomes] : a.scores) {
        if (!same_rows(outcomes, b.scores.at(score))) lines += "scores of " + testing_support::name_of(score) + "\n";
    }
    for (std::size_t i = 0; i < settings.size(); ++i) {
        if (!same_bits(a.settings[i], b.settings[i])) lines += testing_support::name_of(settings[i]) + "\n";
    }
    return lines;
}

/// Memory that the next calls are given holds these bytes.
void poison_device_memory(std::size_t bytes, int byte) {
    cudaMemPool_t pool{};
    int device = 0;
    ASSERT_EQ(cudaGetDevice(&device), cudaSuccess);
    ASSERT_EQ(cudaDeviceGetDefaultMemPool(&pool, device), cudaSuccess);
    std::uint64_t keep = std::numeric_limits<std::uint64_t>::max();
    ASSERT_EQ(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep), cudaSuccess);
    void* memory = nullptr;
    ASSERT_EQ(cudaMallocAsync(&memory, bytes, nullptr), cudaSuccess);
    ASSERT_EQ(cudaMemsetAsync(memory, byte, bytes, nullptr), cudaSuccess);
    ASSERT_EQ(cudaFreeAsync(memory, nullptr), cudaSuccess);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

// Whatever stood in the memory before (NaN, large numbers, zeros) is in no result.
TEST_F(CudaMeasure, OldMemoryShowsNowhere) {
    const HeadShape shape{.head_dim = 128, .rows = 333, .q_start = 1300, .later_keys = 3, .value_dim = 100};
    const std::vector<RouteSetting> settings = all_routers({16, 32, 512});
    const HeadTensors head = random_head(shape, 6);
    const HeadOutcomes first = cuda_->measure(head, settings, 5);
    for (const int byte : {0xff, 0x7f, 0x00, 0x41}) {
        poison_device_memory(std::size_t{1} << 30, byte);
        const HeadOutcomes again = cuda_->measure(head, settings, 5);
        EXPECT_EQ(other_bits(again, first, settings), "") << "over bytes " << byte;
        for (const auto& [score, outcomes] : first.scores) {
            EXPECT_TRUE(same_bits(again.scores.at(score).distances.sum, outcomes.distances.sum)) << score.router;
        }
    }
}

template <typename T>
std::vector<T> slice(const std::vector<T>& rows, std::int64_t first, std::int64_t count, std::int64_t width = 1) {
    if (rows.empty()) return {};
    return {rows.begin() + first * width, rows.begin() + (first + count) * width};
}

HeadOutcomes slice(const HeadOutcomes& all, std::int64_t first, std::int64_t count) {
    HeadOutcomes part = all;
    part.distant_key = slice(all.distant_key, first, count);
    for (auto& [block_size, blocks] : part.blocks) {
        for (std::vector<float>* column :
             {&blocks.past_mass, &blocks.past_mass_no0, &blocks.first_mass, &blocks.first_mass_no0}) {
            *column = slice(*column, first, count);
        }
        blocks.needle_key = slice(blocks.needle_key, first, count);
    }
    for (auto& [score, outcomes] : part.scores) {
        for (std::vector<float>* column :
             {&outcomes.deviation, &outcomes.needle_score, &outcomes.mass_score, &outcomes.mass_score_squared}) {
            *column = slice(*column, first, count);
        }
    }
    for (RowOutcomes& outcome : part.settings) {
        outcome.selection = slice(outcome.selection, first, count, outcome.slots);
        outcome.routed_mass = slice(outcome.routed_mass, first, count);
        outcome.routed_mass_no0 = slice(outcome.routed_mass_no0, first, count);
        outcome.margin = slice(outcome.margin, first, count);
        outcome.rounding_changed = slice(outcome.rounding_changed, first, count);
    }
    return part;
}

// A long head takes several windows of rows. Rows do not depend on the window they stand in, nor on the others of the
// call, and sums by distance add up.
TEST_F(CudaMeasure, RowsDoNotDependOnTheirWindow) {
    const HeadShape shape{.head_dim = 32, .rows = 60000};
    const std::vector<RouteSetting> settings = {{.score = {.block_size = 16, .router = "mean"}, .topk = 5},
                                                {.score = {.block_size = 16, .router = "cum2"}, .topk = 3},
                                                {.score = {.block_size = 64, .router = "oracle"}, .topk = 8},
                                                {.score = {.block_size = 64, .router = "max"}, .topk = 2}};
    const HeadTensors head = random_head(shape, 7);
    const HeadOutcomes all = cuda_->measure(head, settings, 5);
    std::vector<double> sums(all.scores.at(settings[0].score).distances.sum.size());
    std::vector<std::int64_t> counts(sums.size());
    for (const auto& [first, count] : {std::pair<std::int64_t, std::int64_t>{0, 23456}, {23456, 60000 - 23456}}) {
        HeadTensors part = head;
        part.q_start = first;
        part.q.rows = count;
        part.q.bytes = slice(head.q.bytes, first, count, std::int64_t{2} * shape.head_dim);
        const HeadOutcomes of_part = cuda_->measure(part, settings, 5);
        EXPECT_EQ(other_bits(of_part, slice(all, first, count), settings), "") << "rows from " << first;
        const DistanceSums& distances = of_part.scores.at(settings[0].score).distances;
        for (std::size_t i = 0; i < distances.sum.size(); ++i) {
            sums[i] += distances.sum[i];
            counts[i] += distances.count[i];
        }
    }
    const DistanceSums& distances = all.scores.at(settings[0].score).distances;
    EXPECT_EQ(counts, distances.count);
    for (std::size_t i = 0; i < sums.size(); ++i) EXPECT_NEAR(sums[i], distances.sum[i], 1e-6) << i;
}

TEST_F(CudaMeasure, SaysWhatItCannotMeasure) {
    const auto trouble = [&](const RouteSetting& setting, DataType dtype, std::int64_t head_dim) {
        return cuda_->trouble(std::vector{setting}, dtype, head_dim);
    };
    const RouteSetting mean{.score = {.block_size = 64, .router = "mean"}, .topk = 8};
    EXPECT_EQ(trouble(mean, DataType::bf16, 128), "");
    EXPECT_THAT(trouble(mean, DataType::fp32, 128), HasSubstr("dtype = fp32"));
    EXPECT_THAT(trouble(mean, DataType::bf16, 80), HasSubstr("head_dim = 80"));
    RouteSetting wrong = mean;
    wrong.topk = 65;
    EXPECT_THAT(trouble(wrong, DataType::bf16, 128), HasSubstr("topk = 65"));
    wrong = {.score = {.block_size = 48, .router = "oracle"}, .topk = 8};
    EXPECT_THAT(trouble(wrong, DataType::bf16, 128), HasSubstr("block_size = 48"));
    EXPECT_THROW(cuda_->measure(random_head({.rows = 100}, 8), std::vector{wrong}, 1), KernelError);
    const RouteSetting quest{.score = {.block_size = 64, .router = "quest"}, .topk = 8};
    EXPECT_EQ(trouble(quest, DataType::bf16, 256), "");
}

TEST_F(CudaMeasure, RefusesScoresBeyondFp32) {
    HeadTensors head = random_head({.rows = 100}, 9);
    std::vector<float> k = head.k.to_float();
    for (float& x : k) x *= 1e20F;
    std::vector<float> q = head.q.to_float();
    for (float& x : q) x *= 1e20F;
    head.q = rows_of(q, head.q.head_dim, DataType::bf16);
    head.k = rows_of(k, head.k.head_dim, DataType::bf16);
    const std::vector<RouteSetting> settings = {{.score = {.block_size = 16, .router = "mean"}, .topk = 4}};
    EXPECT_THROW(cuda_->measure(head, settings, 1), KernelError);  // the CPU's pass sums in double
}

}  // namespace
}  // namespace mobalab::experiments
