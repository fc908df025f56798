// The parts of the fast CPU path: conversions, top-k, lists, threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <stdexcept>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/lists.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/topk.h"

namespace mobalab::kernels::cpu {
namespace {

/// Every 16-bit pattern widens and narrows back to itself, alone and in rows (other code paths in Eigen).
TEST(Convert, SixteenBitValuesRoundTrip) {
    for (const DataType dtype : {DataType::bf16, DataType::fp16}) {
        std::vector<std::uint16_t> patterns(65536);
        std::iota(patterns.begin(), patterns.end(), std::uint16_t{0});
        std::vector<float> wide(patterns.size());
        read_row(patterns.data(), dtype, 65536, wide.data());
        std::vector<std::uint16_t> back(patterns.size());
        write_row(back.data(), dtype, 65536, wide.data());
        for (std::size_t i = 0; i < patterns.size(); ++i) {
            if (std::isnan(wide[i])) continue;
            ASSERT_EQ(back[i], patterns[i]);
            ASSERT_EQ(round_to(dtype, wide[i]), wide[i]);
        }
    }
}

/// Between two neighbours: nearest wins, the exact middle goes to the even pattern.
TEST(Convert, RoundsToNearestEven) {
    for (const DataType dtype : {DataType::bf16, DataType::fp16}) {
        const std::uint16_t largest = dtype == DataType::bf16 ? 0x7f7f : 0x7bff;
        for (std::uint16_t low = 0; low < largest; low = static_cast<std::uint16_t>(low + 7)) {
            const auto high = static_cast<std::uint16_t>(low + 1);
            float a = 0.0F;
            float b = 0.0F;
            read_row(&low, dtype, 1, &a);
            read_row(&high, dtype, 1, &b);
            const auto middle = static_cast<float>((static_cast<double>(a) + b) / 2.0);
            if (static_cast<double>(middle) * 2.0 != static_cast<double>(a) + b) continue;  // below fp32's own range
            ASSERT_EQ(round_to(dtype, middle), low % 2 == 0 ? a : b) << low;
            ASSERT_EQ(round_to(dtype, std::nextafter(middle, 0.0F)), a) << low;
            ASSERT_EQ(round_to(dtype, std::nextafter(middle, std::numeric_limits<float>::infinity())), b) << low;
            ASSERT_EQ(round_to(dtype, -std::nextafter(middle, std::numeric_limits<float>::infinity())), -b) << low;
        }
    }
    EXPECT_EQ(round_to(DataType::fp32, 0.1F), 0.1F);
}

/// Against a full sort, with few distinct scores so that ties are everywhere, in several tiles and any order of tiles.
TEST(TopKTest, IsTheExactTopKWithTies) {
    std::mt19937 engine(3);
    for (const Index kept : {1, 2, 7, 20, 63}) {
        for (const int distinct : {1, 3, 1000000}) {
            constexpr Index rows = 37;
            constexpr Index padded_rows = row_quantum;
            constexpr Index columns = 256;
            constexpr Index tile = 64;
            ScoreTile scores(padded_rows, columns);
            std::uniform_int_distribution<int> value(-distinct / 2, distinct / 2);
            for (Index i = 0; i < scores.size(); ++i) scores.data()[i] = static_cast<float>(value(engine)) * 0.5F;
            std::vector<Index> candidates(static_cast<std::size_t>(rows));
            for (Index& c : candidates) c = std::uniform_int_distribution<Index>(0, columns)(engine);
            TopK best(rows, kept);
            best.clear();
            std::vector<Index> order = {2, 0, 3, 1};
            for (const Index t : order) {
                ScoreTile part = scores.middleCols(t * tile, tile);
                for (Index r = 0; r < rows; ++r) {
                    for (Index c = 0; c < tile; ++c) {
                        if (t * tile + c >= candidates[static_cast<std::size_t>(r)]) {
                            part(r, c) = -std::numeric_limits<float>::infinity();
                        }
                    }
                }
                best.add(part, t * tile, candidates, rows);
            }
            for (Index r = 0; r < rows; ++r) {
                std::vector<std::pair<float, std::int32_t>> want;
                for (Index c = 0; c < candidates[static_cast<std::size_t>(r)]; ++c) {
                    want.emplace_back(scores(r, c), static_cast<std::int32_t>(c));
                }
                std::sort(want.begin(), want.end(), std::greater<>());
                want.resize(static_cast<std::size_t>(kept), {-std::numeric_limits<float>::infinity(), -1});
                std::vector<std::int32_t> blocks(static_cast<std::size_t>(kept));
                std::vector<float> values(static_cast<std::size_t>(kept));
                best.write(r, blocks.data(), values.data());
                for (std::size_t slot = 0; slot < want.size(); ++slot) {
                    ASSERT_EQ(blocks[slot], want[slot].second) << "kept " << kept << ", row " << r;
                    ASSERT_EQ(values[slot], want[slot].first) << "kept " << kept << ", row " << r;
                }
            }
        }
    }
}

TEST(TopKTest, PositiveAndNegativeZeroTie) {
    ScoreTile scores = ScoreTile::Constant(row_quantum, column_quantum, -1.0F);
    scores(0, 2) = 0.0F;
    scores(0, 5) = -0.0F;
    TopK best(1, 2);
    best.add(scores, 0, {8}, 1);
    std::vector<std::int32_t> blocks(2);
    best.write(0, blocks.data(), nullptr);
    EXPECT_EQ(blocks, (std::vector<std::int32_t>{5, 2}));
}

TEST(BlockListsTest, TurnTheSelectionAround) {
    Sequence s;
    s.queries = s.keys = 8;
    s.block_size = 2;
    s.blocks = 4;
    const std::vector<std::int32_t> selection = {-1, -1, -1, -1, 0, -1, -1, 0, 1, 0, 0, -1, 2, 0, 1, 2};
    const BlockLists lists = block_lists(s, selection.data(), 2, 2, 8);
    EXPECT_EQ(lists.begin, (std::vector<std::int64_t>{0, 5, 7, 9, 9}));
    EXPECT_EQ(lists.rows, (std::vector<std::int32_t>{2, 3, 4, 5, 6, 4, 7, 6, 7}));
}

TEST(ParallelFor, RunsEveryTaskOnce) {
    for (const int threads : {0, 1, 3, 8}) {
        std::vector<std::atomic<int>> runs(1000);
        parallel_for(1000, threads, [&](std::int64_t i) { ++runs[static_cast<std::size_t>(i)]; });
        for (const auto& count : runs) ASSERT_EQ(count, 1);
        parallel_for(0, threads, [](std::int64_t) { FAIL(); });
    }
}

TEST(ParallelFor, RethrowsTheFirstError) {
    for (const int threads : {1, 4}) {
        EXPECT_THROW(parallel_for(100, threads,
                                  [](std::int64_t i) {
                                      if (i == 17) throw std::runtime_error("task 17");
                                  }),
                     std::runtime_error);
    }
}

}  // namespace
}  // namespace mobalab::kernels::cpu
