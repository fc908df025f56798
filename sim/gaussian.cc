#include "sim/gaussian.h"

#include <algorithm>
#include <cstddef>

#include "sim/philox_tile.h"
#include "sim/transforms.h"

namespace mobalab::sim {
namespace {

constexpr std::size_t kTileBlocks = 64;

/// All 4 * kBlocks normals of a tile.
template <std::size_t kBlocks>
void fill_whole_tile(float* out, PhiloxKey key, std::uint64_t subsequence, std::uint64_t draw) {
    PhiloxTile<kBlocks> tile;
    fill_tile(tile, key, subsequence, draw);
    for (std::size_t i = 0; i < 2 * kBlocks; ++i) {
        const Pair z = normal_pair(tile.first[i], tile.second[i]);
        out[2 * i] = z.first;
        out[2 * i + 1] = z.second;
    }
}

/// `count` normals from the `skip`-th of tile `draw` on.
void fill_part_of_tile(float* out, std::size_t skip, std::size_t count, PhiloxKey key, std::uint64_t subsequence,
                       std::uint64_t draw) {
    constexpr std::size_t kSmall = 8;  // a short tail should not pay for a whole tile
    float buffer[4 * kSmall];
    while (count > 0) {
        fill_whole_tile<kSmall>(buffer, key, subsequence, draw + skip / (4 * kSmall) * kSmall);
        const std::size_t offset = skip % (4 * kSmall);
        const std::size_t used = std::min(count, 4 * kSmall - offset);
        out = std::copy_n(buffer + offset, used, out);
        skip += used;
        count -= used;
    }
}

}  // namespace

void fill_gaussian(std::span<float> out, PhiloxKey key, std::uint64_t subsequence, std::uint64_t first_draw) {
    float* next = out.data();
    std::size_t left = out.size();
    std::uint64_t draw = first_draw - first_draw % kTileBlocks;
    std::size_t skip = 4 * static_cast<std::size_t>(first_draw - draw);
    while (left > 0) {
        const std::size_t count = std::min(left, 4 * kTileBlocks - skip);
        if (count == 4 * kTileBlocks) {
            fill_whole_tile<kTileBlocks>(next, key, subsequence, draw);
        } else {
            fill_part_of_tile(next, skip, count, key, subsequence, draw);
        }
        next += count;
        left -= count;
        skip = 0;
        draw += kTileBlocks;
    }
}

}  // namespace mobalab::sim
