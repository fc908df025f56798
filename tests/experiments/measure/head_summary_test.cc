// Rows whose masses are near the ends of what fp32 tells apart.

#include "experiments/measure/head_summary.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <span>

namespace mobalab::experiments {
namespace {

constexpr std::int64_t block = 64;
constexpr float above_one = 1.0F + 1.2e-7F;  // what a sum of masses that are 1 can be

/// Two rows of own block 2, of which window routes block 1, with these masses of the past and of that block.
double own_share(std::array<float, 2> past, std::array<float, 2> routed) {
    const RouteSetting window{.score = {.block_size = block, .router = "window"}, .topk = 2};
    HeadOutcomes outcomes;
    outcomes.rows = 2;
    outcomes.q_start = 2 * block;
    outcomes.distant_key = {-1, -1};
    outcomes.blocks[block] = {.past_mass = {past[0], past[1]},
                              .past_mass_no0 = {past[0], past[1]},
                              .first_mass = {past[0], past[1]},
                              .first_mass_no0 = {past[0], past[1]},
                              .needle_key = {-1, -1}};
    RowOutcomes rows;
    rows.slots = 1;
    rows.selection = {1, 1};
    rows.routed_mass = rows.routed_mass_no0 = {routed[0], routed[1]};
    outcomes.settings = {rows};
    HeadSummary summary(std::span(&window, 1), {}, KeyStatistics{});
    summary.add(HeadTensors{}, outcomes);
    return summary.settings(0.95).front().values[static_cast<std::size_t>(Quantity::own_share)];
}

TEST(HeadSummary, OwnShareIsOfWhatIsAttendedTo) {
    EXPECT_NEAR(own_share({0.5F, 0.5F}, {0.25F, 0.5F}), (0.5 / 0.75 + 0.5) / 2.0, 1e-7);
    EXPECT_EQ(own_share({above_one, above_one}, {1.0F, 1.0F}), 0.0);
}

/// A sink may hold all but 1e-7 of a row: own over own and routed is then one rounding error over another, of any size
/// and sign.
TEST(HeadSummary, ARowThatAttendsToNextToNothingHasNoOwnShare) {
    EXPECT_TRUE(std::isnan(own_share({above_one, 1.0F}, {1e-7F, 1e-8F})));
    EXPECT_NEAR(own_share({above_one, 0.5F}, {1e-7F, 0.25F}), 0.5 / 0.75, 1e-7);
}

}  // namespace
}  // namespace mobalab::experiments
