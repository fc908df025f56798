#pragma once

#include <cstring>

#include "sim/simd/philox_tile.h"
#include "sim/simd/tiles.h"

namespace mobalab::sim::MOBALAB_SIMD {

/// All 4 * kBlocks normals of a tile.
template <std::size_t kBlocks>
MOBALAB_SIM_INLINE void fill_whole_tile(float* out, PhiloxKey key, std::uint64_t subsequence, std::uint64_t draw) {
    PhiloxTile<kBlocks> tile;
    fill_tile(tile, key, subsequence, draw);
    for (std::size_t i = 0; i < 2 * kBlocks; ++i) {
        const Pair z = normal_pair(tile.first[i], tile.second[i]);
        out[2 * i] = z.first;
        out[2 * i + 1] = z.second;
    }
}

/// `count` normals from the `skip`-th of tile `draw` on.
inline void fill_part_of_tile(float* out, std::size_t skip, std::size_t count, PhiloxKey key, std::uint64_t subsequence,
                              std::uint64_t draw) {
    constexpr std::size_t kSmall = 8;  // a short tail should not pay for a whole tile
    float buffer[4 * kSmall];
    while (count > 0) {
        const std::uint64_t small_draw = draw + skip / (4 * kSmall) * kSmall;
        const std::size_t offset = skip % (4 * kSmall);
        const std::size_t left = 4 * kSmall - offset;
        const std::size_t used = count < left ? count : left;
        if (used == 4 * kSmall) {
            fill_whole_tile<kSmall>(out, key, subsequence, small_draw);
        } else {
            fill_whole_tile<kSmall>(buffer, key, subsequence, small_draw);
            std::memcpy(out, buffer + offset, used * sizeof *out);
        }
        out += used;
        skip += used;
        count -= used;
    }
}

/// See sim/streams/gaussian.h.
inline void fill_gaussian(float* out, std::size_t count, PhiloxKey key, std::uint64_t subsequence,
                          std::uint64_t first_draw) {
    constexpr std::size_t kTileBlocks = 64;
    std::uint64_t draw = first_draw - first_draw % kTileBlocks;
    std::size_t skip = 4 * static_cast<std::size_t>(first_draw - draw);
    while (count > 0) {
        const std::size_t room = 4 * kTileBlocks - skip;
        const std::size_t now = count < room ? count : room;
        if (now == 4 * kTileBlocks) {
            fill_whole_tile<kTileBlocks>(out, key, subsequence, draw);
        } else {
            fill_part_of_tile(out, skip, now, key, subsequence, draw);
        }
        out += now;
        count -= now;
        skip = 0;
        draw += kTileBlocks;
    }
}

template <std::size_t kCount>
MOBALAB_SIM_INLINE void fill_affinity_tile(std::int32_t* out, PhiloxKey key, std::uint64_t subsequence,
                                           std::uint64_t draw, float exponent) {
    PhiloxTile<kCount / 2> tile;
    fill_tile(tile, key, subsequence, draw);
    for (std::size_t i = 0; i < kCount; ++i) {
        out[i] = affinity(tile.first[i], tile.second[i], exponent);
    }
}

/// See sim/samplers/affinity.h.
inline void fill_affinities(std::int32_t* out, std::size_t count, PhiloxKey key, std::uint64_t subsequence,
                            std::uint64_t first, float exponent) {
    std::uint64_t draw = first / 2;
    const bool aligned = first % kAffinityTile == 0;
    for (; aligned && count >= kAffinityTile; count -= kAffinityTile) {
        fill_affinity_tile<kAffinityTile>(out, key, subsequence, draw, exponent);
        out += kAffinityTile;
        draw += kAffinityTile / 2;
    }
    for (; count >= kSmallAffinityTile; count -= kSmallAffinityTile) {
        fill_affinity_tile<kSmallAffinityTile>(out, key, subsequence, draw, exponent);
        out += kSmallAffinityTile;
        draw += kSmallAffinityTile / 2;
    }
}

}  // namespace mobalab::sim::MOBALAB_SIMD
