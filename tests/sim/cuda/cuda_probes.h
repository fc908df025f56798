#pragma once

#include <cstdint>
#include <vector>

#include "sim/streams/needle_queries.h"
#include "sim/streams/philox_key.h"

namespace mobalab::sim::testing {

/// Words of cuRAND's Philox4_32_10: the `count` curand() values after curand_init(seed, subsequence, offset).
std::vector<std::uint32_t> curand_words(std::uint64_t seed, std::uint64_t subsequence, std::uint64_t offset, int count);

/// fill_gaussian() on the device.
std::vector<float> device_gaussians(std::int64_t count, PhiloxKey key, std::uint64_t subsequence,
                                    std::uint64_t first_draw);

/// fill_unit_rows() on the device as float, bf16 and fp16, the latter two widened; and fill_listed_unit_rows() of the
/// same rows in reverse order.
struct DeviceRows {
    std::vector<float> fp32, bf16, fp16, reversed;
};
DeviceRows device_unit_rows(const UnitRows& rows, std::int64_t first, std::int64_t count);

/// build_needle_queries() on the device, `at_once` queries a call.
struct DeviceQueries {
    std::vector<float> queries;
    std::vector<std::uint8_t> feasible;
};
DeviceQueries device_needle_queries(const NeedleQueries& recipe, std::int64_t at_once);

/// Floats in [low, high] whose Ops<float>::sqrt on the device differs from the correctly rounded root, and how many
/// were tried.
struct SqrtCheck {
    std::uint64_t wrong;
    std::uint64_t tried;
};
SqrtCheck check_device_sqrt(float low, float high);

}  // namespace mobalab::sim::testing
