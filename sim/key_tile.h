#pragma once

#include <cstddef>
#include <cstdint>

#include "sim/vector_rows.h"

namespace mobalab::sim {

/// Real key vectors of some consecutive rows (sim/vector_rows.h) as floats, coordinate by coordinate, so that a
/// register holds one coordinate of several rows: coordinate j of row i is coords[j * kStride + kHalo + i]. The kHalo
/// places before the first row hold the keys before it, for a convolution.
///
/// What a register's lane does is what one number at a time would do: every sum runs over the coordinates in their
/// order, products and sums are rounded apart. Rows are computed in groups of kGroup; those beyond the ones asked for
/// are drawn and ignored.
struct KeyTile {
    static constexpr std::size_t kRows = 64;
    static constexpr std::size_t kGroup = 16;
    static constexpr std::size_t kHalo = 16;  ///< at least the widest convolution - 1
    static constexpr std::size_t kStride = kHalo + kRows;

    /// Floats a tile needs.
    static std::size_t size(std::int64_t head_dim) {
        return static_cast<std::size_t>(4 * quads_of(head_dim)) * kStride;
    }
};

/// A row of a tile becomes own x + common c + query q: x the row itself, c the component its block shares, q the query.
struct KeyMix {
    alignas(64) float own[KeyTile::kRows];
    alignas(64) float common[KeyTile::kRows];
    alignas(64) float query[KeyTile::kRows];
};

/// k'_t = k_t + f(tap (k_t + k_(t-1) + ... + k_(t-width+1))); width 0: k'_t = k_t.
struct TileConvolution {
    std::int64_t width;
    float tap;
    bool silu;
};

}  // namespace mobalab::sim
