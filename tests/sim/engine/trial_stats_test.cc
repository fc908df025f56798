#include "sim/engine/trial_stats.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace mobalab::sim {
namespace {

TEST(TrialStats, adding_adds_every_count) {
    TrialStats sum{10, 3, {7, 2, 1}};
    sum += TrialStats{5, 1, {4, 0, 1}};
    EXPECT_EQ(sum, (TrialStats{15, 4, {11, 2, 2}}));
    sum.check();
}

TEST(TrialStats, without_ranks_there_is_nothing_to_match) {
    TrialStats sum{10, 3, {}};
    sum += TrialStats{5, 1, {}};
    EXPECT_EQ(sum, (TrialStats{15, 4, {}}));
    sum.check();
}

TEST(TrialStats, histograms_of_different_sizes_are_refused_and_nothing_changes) {
    TrialStats sum{10, 3, {7, 2, 1}};
    EXPECT_THROW(sum += (TrialStats{5, 1, {4, 1}}), std::logic_error);
    EXPECT_THROW(sum += (TrialStats{5, 1, {}}), std::logic_error);
    EXPECT_EQ(sum, (TrialStats{10, 3, {7, 2, 1}}));
}

TEST(TrialStats, broken_invariants_are_found) {
    EXPECT_THROW((TrialStats{3, 4, {}}).check(), std::logic_error);
    EXPECT_THROW((TrialStats{3, 1, {1, 1}}).check(), std::logic_error);
    EXPECT_THROW((TrialStats{3, 1, {3, 1}}).check(), std::logic_error);
    EXPECT_NO_THROW((TrialStats{}).check());
}

}  // namespace
}  // namespace mobalab::sim
