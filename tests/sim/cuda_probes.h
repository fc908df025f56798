#pragma once

#include <cstdint>
#include <vector>

#include "sim/philox_key.h"

namespace mobalab::sim::testing {

/// Words of cuRAND's Philox4_32_10: the `count` curand() values after curand_init(seed, subsequence, offset).
std::vector<std::uint32_t> curand_words(std::uint64_t seed, std::uint64_t subsequence, std::uint64_t offset, int count);

/// fill_gaussian() on the device.
std::vector<float> device_gaussians(std::int64_t count, PhiloxKey key, std::uint64_t subsequence,
                                    std::uint64_t first_draw);

/// Floats in [low, high] whose Ops<float>::sqrt on the device differs from the correctly rounded root, and how many
/// were tried.
struct SqrtCheck {
    std::uint64_t wrong;
    std::uint64_t tried;
};
SqrtCheck check_device_sqrt(float low, float high);

}  // namespace mobalab::sim::testing
