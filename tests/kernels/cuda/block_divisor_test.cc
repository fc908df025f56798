// Division by a multiplication, for every block size; no device is needed.
#include "kernels/cuda/tile/block_divisor.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <random>

namespace mobalab::kernels::cuda {
namespace {

constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max();

TEST(BlockDivisor, IsExactAtEveryBorderThatCanRoundWrong) {
    std::mt19937 engine(7);
    for (std::int32_t size = 1; size <= 16384; ++size) {
        const BlockDivisor divisor(size);
        const auto check = [&](std::int64_t n) {
            if (n < 0 || n > most) return;
            ASSERT_EQ(divisor.divide(static_cast<std::int32_t>(n)), n / size) << n << " / " << size;
        };
        const std::int64_t last = most / size;
        for (const std::int64_t quotient : {std::int64_t{0}, std::int64_t{1}, last / 2, last - 1, last,
                                            static_cast<std::int64_t>(engine()) % (last + 1)}) {
            for (const std::int64_t off : {-1, 0, 1}) check(quotient * size + off);
        }
        check(most);
        if (HasFatalFailure()) return;
    }
    for (const std::int32_t size : {(1 << 30) - 1, 1 << 30}) {
        EXPECT_EQ(BlockDivisor(size).divide(size - 1), 0);
        EXPECT_EQ(BlockDivisor(size).divide(size), 1);
        EXPECT_EQ(BlockDivisor(size).divide(most), most / size);
    }
}

}  // namespace
}  // namespace mobalab::kernels::cuda
