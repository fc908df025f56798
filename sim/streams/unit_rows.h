#pragma once

#include <cstdint>
#include <span>

#include "sim/streams/philox_key.h"

namespace mobalab::sim {

/// Independent rows uniform on the unit sphere of R^head_dim, each a function of its number alone: row r is the
/// normals [r * head_dim, (r + 1) * head_dim) of the stream (key, subsequence) of sim/streams/gaussian.h, divided by
/// their length. The same bits on every machine: squares are summed in kUnitRowLanes lanes, coordinate e in lane e mod
/// kUnitRowLanes, in the order of e; then the upper half of the lanes is added to the lower until one is left.
struct UnitRows {
    std::int64_t head_dim = 0;
    PhiloxKey key;
    std::uint64_t subsequence = 0;
};

inline constexpr int kUnitRowLanes = 16;

/// Rows `first`, `first` + 1, ... into `out`, [rows, head_dim]. Thread-safe.
void fill_unit_rows(const UnitRows& rows, std::int64_t first, std::span<float> out);

}  // namespace mobalab::sim
