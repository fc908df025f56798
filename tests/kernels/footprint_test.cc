// Which arrays share memory: against counting every element.
#include "kernels/footprint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

namespace mobalab::kernels {
namespace {

std::vector<char> memory(1 << 16);

Footprint draw(std::mt19937& engine) {
    const auto below = [&](std::uint32_t n) { return static_cast<std::int64_t>(engine() % n); };
    Footprint array;
    array.element_bytes = 2;
    array.row = 1 + below(5);
    array.data = memory.data() + 2 * below(40);
    for (Dimension& d : array.dimensions) d = {1 + below(4), below(14)};
    return array;
}

/// Elements, counted from the beginning of the memory, once for every row that has them.
std::multiset<std::int64_t> elements_of(const Footprint& a) {
    std::multiset<std::int64_t> elements;
    const std::int64_t first = (static_cast<const char*>(a.data) - memory.data()) / a.element_bytes;
    for (std::int64_t i = 0; i < a.dimensions[0].extent; ++i) {
        for (std::int64_t j = 0; j < a.dimensions[1].extent; ++j) {
            for (std::int64_t k = 0; k < a.dimensions[2].extent; ++k) {
                for (std::int64_t e = 0; e < a.row; ++e) {
                    elements.insert(first + i * a.dimensions[0].stride + j * a.dimensions[1].stride +
                                    k * a.dimensions[2].stride + e);
                }
            }
        }
    }
    return elements;
}

bool meet(const std::multiset<std::int64_t>& a, const std::multiset<std::int64_t>& b) {
    return std::any_of(a.begin(), a.end(), [&](std::int64_t x) { return b.count(x) > 0; });
}

TEST(FootprintTest, RowsOverlapWhereAnElementIsInTwo) {
    std::mt19937 engine(1);
    int overlapping = 0;
    int apart = 0;
    for (int i = 0; i < 20000; ++i) {
        const Footprint array = draw(engine);
        const auto elements = elements_of(array);
        const bool twice = std::set<std::int64_t>(elements.begin(), elements.end()).size() < elements.size();
        ASSERT_EQ(rows_overlap(array), twice) << "draw " << i;
        (twice ? overlapping : apart) += 1;
    }
    EXPECT_GT(overlapping, 1000);
    EXPECT_GT(apart, 1000);
}

/// Strides that are not nested, yet no two rows meet.
TEST(FootprintTest, InterleavedRowsAreApart) {
    Footprint array;
    array.row = 10;
    array.dimensions = {{{1, 0}, {2, 20}, {2, 30}}};  // 0, 20, 30, 50
    EXPECT_FALSE(rows_overlap(array));
    array.row = 11;
    EXPECT_TRUE(rows_overlap(array));
}

TEST(FootprintTest, PartsOfOnePackedTensorAreApart) {
    std::mt19937 engine(2);
    int overlapping = 0;
    int apart = 0;
    for (int i = 0; i < 20000; ++i) {
        const Footprint a = draw(engine);
        Footprint b = draw(engine);
        for (std::size_t d = 0; d < 3; ++d) b.dimensions[d].stride = a.dimensions[d].stride;
        const bool shared = meet(elements_of(a), elements_of(b));
        ASSERT_EQ(overlap(a, b), shared) << "draw " << i;
        ASSERT_EQ(overlap(b, a), shared) << "draw " << i;
        (shared ? overlapping : apart) += 1;
    }
    EXPECT_GT(overlapping, 1000);
    EXPECT_GT(apart, 1000);
}

TEST(FootprintTest, NoSharedElementIsOverlooked) {
    std::mt19937 engine(3);
    for (int i = 0; i < 20000; ++i) {
        Footprint a = draw(engine);
        Footprint b = draw(engine);
        if (meet(elements_of(a), elements_of(b))) {
            ASSERT_TRUE(overlap(a, b)) << "draw " << i;
        }
        a.data = memory.data() + 20000;
        ASSERT_FALSE(overlap(a, b));
        a.dimensions[1].extent = 0;
        ASSERT_FALSE(overlap(b, a));
    }
}

}  // namespace
}  // namespace mobalab::kernels
