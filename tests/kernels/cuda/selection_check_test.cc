// The judge of selections takes right ones and refuses wrong ones; no device is needed.
#include "tests/kernels/cuda/selection_check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

namespace mobalab::kernels::testing_support {
namespace {

struct Row {
    std::vector<std::int32_t> selection;
    std::vector<float> scores;
};

bool accepted(const std::vector<double>& exact, const Row& row, double slack = 0.0) {
    const SelectionCheck check = {exact, slack};
    return check(static_cast<std::int64_t>(row.selection.size()), row.selection.data(), row.scores.data()).empty();
}

const std::vector<double> mixed = {1.0, NAN, 3.0, -INFINITY, 3.0, NAN, INFINITY, 0.5};
const Row best_of_mixed = {{5, 1, 6, 4, 2}, {NAN, NAN, INFINITY, 3.0F, 3.0F}};

TEST(SelectionCheck, TakesTheBest) {
    EXPECT_TRUE(accepted(mixed, best_of_mixed));
    EXPECT_TRUE(accepted(
        mixed, {{5, 1, 6, 4, 2, 0, 7, -1, -1}, {NAN, NAN, INFINITY, 3.0F, 3.0F, 1.0F, 0.5F, -INFINITY, -INFINITY}}));
    EXPECT_TRUE(accepted({}, {{-1, -1}, {-INFINITY, -INFINITY}}));
    EXPECT_TRUE(accepted({1.0, 1.01}, {{0}, {1.0F}}, 0.01));
}

TEST(SelectionCheck, RefusesEveryChangedSlot) {
    for (std::size_t slot = 0; slot < best_of_mixed.selection.size(); ++slot) {
        for (const std::int32_t block : {-1, 0, 3, 7, 8}) {
            Row row = best_of_mixed;
            row.selection[slot] = block;
            EXPECT_FALSE(accepted(mixed, row)) << slot << " " << block;
        }
        Row row = best_of_mixed;
        row.scores[slot] = 2.5F;
        EXPECT_FALSE(accepted(mixed, row)) << slot;
    }
}

TEST(SelectionCheck, RefusesWrongOrders) {
    EXPECT_FALSE(accepted(mixed, {{1, 5, 6}, {NAN, NAN, INFINITY}}));                    // NaN by block
    EXPECT_FALSE(accepted(mixed, {{5, 1, 6, 2, 4}, {NAN, NAN, INFINITY, 3.0F, 3.0F}}));  // the tie
    EXPECT_FALSE(accepted({3.0, 3.0}, {{0}, {3.0F}}));                                   // the tie, cut off
    EXPECT_FALSE(accepted({1.0, 2.0}, {{0, 1}, {1.0F, 2.0F}}));                          // best first
    EXPECT_FALSE(accepted({1.0, 2.0, 3.0}, {{2, 0}, {3.0F, 1.0F}}));                     // left out
    EXPECT_FALSE(accepted({1.0, 1.03}, {{0}, {1.0F}}, 0.01));                            // by more than slack
    EXPECT_FALSE(accepted({1.0}, {{0, 0}, {1.0F, 1.0F}}));                               // twice
    EXPECT_FALSE(accepted({-INFINITY, 1.0}, {{1, 0}, {1.0F, -INFINITY}}));               // no candidate
}

}  // namespace
}  // namespace mobalab::kernels::testing_support
