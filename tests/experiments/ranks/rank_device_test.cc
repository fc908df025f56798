#include <gtest/gtest.h>

#include "experiments/ranks/ranks.h"

namespace mobalab::experiments {
namespace {

TEST(DeviceOfRank, RanksTakeTurnsOverTheDevicesOfTheHost) {
    EXPECT_EQ(device_of_rank(nullptr, 4, 0), "0");
    EXPECT_EQ(device_of_rank(nullptr, 4, 3), "3");
    EXPECT_EQ(device_of_rank(nullptr, 4, 5), "1");
}

TEST(DeviceOfRank, OfTheDevicesTheUserAllows) {
    EXPECT_EQ(device_of_rank("2,5", 8, 0), "2");
    EXPECT_EQ(device_of_rank("2,5", 8, 3), "5");
    EXPECT_EQ(device_of_rank("GPU-a,MIG-b", 8, 1), "MIG-b");
}

TEST(DeviceOfRank, NothingWhereThereIsNoChoice) {
    EXPECT_EQ(device_of_rank(nullptr, 0, 1), std::nullopt);
    EXPECT_EQ(device_of_rank(nullptr, 1, 1), std::nullopt);
    EXPECT_EQ(device_of_rank("", 8, 1), std::nullopt) << "the user allows none";
    EXPECT_EQ(device_of_rank("7", 8, 1), std::nullopt);
}

}  // namespace
}  // namespace mobalab::experiments
