#pragma once

#include <bit>
#include <cstdint>

#include "kernels/cuda/tile/sequences.h"

namespace mobalab::kernels::cuda {

/// Division by a block size, which kernels learn at run time: one multiplication (Granlund and Montgomery, Division by
/// Invariant Integers using Multiplication, PLDI 1994, theorem 4.2). With 2^(s - 1) < size <= 2^s the multiplier is
/// ceil(2^(31 + s) / size), which fits 32 bits, and floor(n multiplier / 2^(31 + s)) = floor(n / size) for 0 <= n <
/// 2^31.
class BlockDivisor {
public:
    BlockDivisor() = default;
    /// size: 1 to 2^30.
    explicit BlockDivisor(std::int64_t size)
        : shift_(static_cast<std::uint32_t>(std::bit_width(static_cast<std::uint64_t>(size - 1)))),
          multiplier_(
              static_cast<std::uint32_t>(((std::uint64_t{1} << (31 + shift_)) + static_cast<std::uint64_t>(size - 1)) /
                                         static_cast<std::uint64_t>(size))) {}

    /// n / size of n >= 0.
    MOBALAB_HOST_DEVICE std::int32_t divide(std::int32_t n) const {
        const std::uint64_t product = static_cast<std::uint64_t>(2u * static_cast<std::uint32_t>(n)) * multiplier_;
        return static_cast<std::int32_t>(static_cast<std::uint32_t>(product >> 32) >> shift_);
    }

private:
    std::uint32_t shift_ = 0;
    std::uint32_t multiplier_ = 0x80000000u;  ///< of size 1
};

}  // namespace mobalab::kernels::cuda
