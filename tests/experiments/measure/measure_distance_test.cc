// The table measure_distance against distances counted token by token.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "experiments/measure/block_distance.h"
#include "experiments/results/results_file.h"
#include "tests/experiments/captured.h"
#include "tests/experiments/measure/synthetic_trace.h"

namespace mobalab::experiments {
namespace {

constexpr std::uint64_t seed = 20251129;  // of the trace; nothing here is a chance

/// head, block size, topk, scorer, keep_first
using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::string, std::int64_t>;

class MeasureDistance : public testing::Test {
protected:
    Results measured(const SyntheticTrace& trace, const std::string& flags) const {
        const std::string path = folder_ / "trace.safetensors";
        spill(path, safetensors_bytes(trace.file));
        const std::string out = folder_ / "measured.h5";
        const Captured run = run_captured(words("measure " + path + flags + " --force --out " + out));
        EXPECT_EQ(run.code, 0) << run.err;
        return read_results(out);
    }

    TemporaryFolder folder_;
};

/// Rows of a table by setting and head, in their order.
std::map<Key, std::vector<std::size_t>> by_setting(const Table& table) {
    std::map<Key, std::vector<std::size_t>> rows;
    for (std::size_t i = 0; i < table.rows(); ++i) {
        rows[{table.integers("head")[i], table.integers("block_size")[i], table.integers("topk")[i],
              table.texts("scorer")[i], table.integers("keep_first")[i]}]
            .push_back(i);
    }
    return rows;
}

/// Bins of one setting: they follow each other, hold every distance once, and each share has its count.
void expect_counts(const Table& table, const std::vector<std::size_t>& rows, const JudgedDistances& judged) {
    const std::int64_t block_size = table.integers("block_size")[rows.front()];
    std::int64_t end = 1;
    double routed_shares = 0.0;
    double needle_shares = 0.0;
    for (const std::size_t i : rows) {
        const std::int64_t low = table.integers("distance_low")[i];
        const std::int64_t high = table.integers("distance_high")[i];
        ASSERT_EQ(low, end);
        ASSERT_EQ(high - 1, low == 1 ? block_size : 2 * (low - 1));  // octaves
        end = high;
        const auto in_bin = [&](const std::vector<std::int64_t>& distances) {
            return std::count_if(distances.begin(), distances.end(),
                                 [&](std::int64_t distance) { return distance >= low && distance < high; });
        };
        const std::int64_t routed = in_bin(judged.routed);
        const std::int64_t needles = in_bin(judged.needles);
        EXPECT_EQ(table.integers("routed_blocks")[i], routed);
        EXPECT_EQ(table.integers("needle_blocks")[i], needles);
        const double routed_share = table.reals("routed_share")[i];
        EXPECT_EQ(routed_share, static_cast<double>(routed) / static_cast<double>(judged.routed.size()));
        routed_shares += routed_share;
        const double needle_share = table.reals("needle_share")[i];
        EXPECT_EQ(std::isnan(needle_share), judged.needles.empty());
        if (!judged.needles.empty()) {
            EXPECT_EQ(needle_share, static_cast<double>(needles) / static_cast<double>(judged.needles.size()));
            needle_shares += needle_share;
        }
    }
    EXPECT_NEAR(routed_shares, 1.0, 1e-12);
    EXPECT_NEAR(needle_shares, judged.needles.empty() ? 0.0 : 1.0, 1e-12);
}

/// `settings` of every head are in the table, each as the judge counts it.
void compare_with_judge(const SyntheticTrace& trace, const Table& table, std::size_t settings) {
    std::vector<Rows> products;
    for (const JudgedHead& head : trace.heads) {
        products.push_back(affinities(head));
    }
    const auto groups = by_setting(table);
    EXPECT_EQ(groups.size(), settings);
    for (const auto& [key, rows] : groups) {
        const auto& [head, block_size, topk, scorer, keep_first] = key;
        SCOPED_TRACE(testing::Message() << head << " " << block_size << " " << topk << " " << scorer << keep_first);
        const auto of_head = static_cast<std::size_t>(head);
        const JudgedSetting setting{block_size, topk, scorer, keep_first == 1};
        expect_counts(table, rows, judged_distances(trace.heads[of_head], products[of_head], setting));
    }
}

const std::string grid =
    " --block-size 16,64,512 --topk 1,2,9 --scorer mean,submean-4,random,window,oracle --keep-first both"
    " --skip-impossible";

TEST_F(MeasureDistance, EveryBinHoldsWhatLiesInIt) {
    for (const char* type : {"fp32", "bf16"}) {
        const SyntheticTrace trace = synthetic_trace(seed, type);
        const Results results = measured(trace, grid);
        // topk 2 and 9 of two block sizes, 2 of 512; neither topk 1 nor random
        compare_with_judge(trace, results.table("measure_distance"), 2U * 5U * 4U * 2U);
    }
}

TEST_F(MeasureDistance, CountsAddUpToThoseOfMeasure) {
    const Results results = measured(synthetic_trace(seed, "fp32"), grid);
    const Table& table = results.table("measure");
    const Table& distances = results.table("measure_distance");
    const auto whole = by_setting(table);
    for (const auto& [key, rows] : by_setting(distances)) {
        ASSERT_EQ(whole.count(key), 1U);
        const std::size_t row = whole.at(key).front();
        EXPECT_EQ(distances.integers("setting")[rows.front()], static_cast<std::int64_t>(row));
        std::int64_t needles = 0;
        std::int64_t nearest = 0;
        for (const std::size_t i : rows) {
            needles += distances.integers("needle_blocks")[i];
            nearest += distances.integers("distance_low")[i] == 1 ? distances.integers("routed_blocks")[i] : 0;
        }
        EXPECT_EQ(needles, table.integers("needle_rows")[row]);
        if (std::get<3>(key) == "window" && std::get<2>(key) == 2 && std::get<4>(key) == 0) {
            EXPECT_EQ(nearest, table.integers("rows")[row]);  // all it routes is the block before its own
        }
        EXPECT_EQ(distances.integers("layer")[rows.front()], table.integers("layer")[row]);
        EXPECT_EQ(distances.integers("sub_blocks")[rows.front()], table.integers("sub_blocks")[row]);
        EXPECT_EQ(distances.texts("trace")[rows.front()], table.texts("trace")[row]);
    }
}

TEST_F(MeasureDistance, OneRowAndNoNeedle) {
    SyntheticTrace trace = synthetic_trace(seed, "fp32");
    const std::size_t last = trace.heads[0].q.size() - 1;
    const std::size_t row_bytes = trace.file.tensor("q").bytes.size() / trace.heads[0].q.size();
    trace.file.tensor("q").shape[0] = 1;
    trace.file.tensor("q").bytes.erase(0, last * row_bytes);
    trace.file.metadata["q_start"] = std::to_string(trace.heads[0].q_start + static_cast<std::int64_t>(last));
    trace.file.metadata.erase("needles");
    for (JudgedHead& head : trace.heads) {
        head.q.erase(head.q.begin(), head.q.begin() + static_cast<std::ptrdiff_t>(last));
        head.q_start += static_cast<std::int64_t>(last);
    }
    const Results results = measured(trace, " --block-size 64,512,700 --topk 2 --scorer mean");
    compare_with_judge(trace, results.table("measure_distance"), 2U * 3U);
    const auto rows = by_setting(results.table("measure_distance"));
    EXPECT_EQ(rows.at({0, 700, 2, "mean", 0}).size(), 1U);  // one block back, which holds no needle
    EXPECT_TRUE(
        std::isnan(results.table("measure_distance").reals("needle_share")[rows.at({0, 700, 2, "mean", 0}).front()]));
}

TEST_F(MeasureDistance, WithoutARoutedBlockTheTableIsEmpty) {
    const Results results = measured(synthetic_trace(seed, "fp32"), " --topk 1,3 --scorer random");
    EXPECT_EQ(results.table("measure_distance").rows(), 0U);
    EXPECT_EQ(results.table("measure").rows(), 4U);
}

TEST(BlockDistance, BinsAreOctavesOfWholeBlocks) {
    const std::vector<std::size_t> bins = {0, 1, 2, 2, 3, 3, 3, 3, 4};
    for (std::size_t back = 1; back <= bins.size(); ++back) {
        EXPECT_EQ(bin_of_blocks_back(static_cast<std::int64_t>(back)), bins[back - 1]) << back;
    }
    EXPECT_EQ(distance_bin(64, 0).low, 1);
    EXPECT_EQ(distance_bin(64, 0).high, 65);
    EXPECT_EQ(distance_bin(64, 1).low, 65);
    EXPECT_EQ(distance_bin(64, 1).high, 129);
    EXPECT_EQ(distance_bin(64, 2).high, 257);
}

}  // namespace
}  // namespace mobalab::experiments
