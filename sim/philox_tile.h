#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "sim/lanes.h"
#include "sim/philox.h"

namespace mobalab::sim {

/// A tile of consecutive Philox blocks, as two rows of words that need no shuffle to be used side by side: `first`
/// holds w0, w2 of block 0, then w0, w2 of block 1, ...; `second` holds w1, w3 likewise. Element i of both rows is the
/// i-th word pair of the stream, which is what every transform of this room consumes.
template <std::size_t kBlocks>
struct PhiloxTile {
    alignas(64) std::uint32_t first[2 * kBlocks];
    alignas(64) std::uint32_t second[2 * kBlocks];
};

/// Fills a tile with blocks [draw, draw + kBlocks) of the subsequence. `draw` must be a multiple of kBlocks (a power of
/// two), so that the high counter word is the same for the whole tile.
///
/// Only c0 differs between lanes: what rounds 1 to 3 have in common is computed once a tile (the compiler hoists it).
template <std::size_t kBlocks>
inline void fill_tile(PhiloxTile<kBlocks>& tile, PhiloxKey key, std::uint64_t subsequence, std::uint64_t draw) {
    static_assert(std::has_single_bit(kBlocks) && kBlocks % kLanes == 0);
    static_assert(std::endian::native == std::endian::little);
    constexpr std::uint64_t kLow = 0xffffffffU;
    const Lanes base = lane_numbers() + (draw & kLow);
    for (std::size_t i = 0; i < kBlocks; i += kLanes) {
        Lanes x0 = base + i;
        Lanes x1 = all_lanes(draw >> 32U);
        Lanes x2 = all_lanes(subsequence & kLow);
        Lanes x3 = all_lanes(subsequence >> 32U);
        std::uint32_t k0 = key.lo;
        std::uint32_t k1 = key.hi;
#pragma GCC unroll 10
        for (int round = 0; round < 10; ++round) {
            // x1 and x3 keep a product's high half in their high halves: harmless, multiplications take low halves.
            const Lanes product0 = multiply_low_halves(x0, all_lanes(0xD2511F53U));
            const Lanes product1 = multiply_low_halves(x2, all_lanes(0xCD9E8D57U));
            x0 = (product1 >> 32U) ^ x1 ^ std::uint64_t{k0};
            x2 = (product0 >> 32U) ^ x3 ^ std::uint64_t{k1};
            x1 = product1;
            x3 = product0;
            k0 += 0x9E3779B9U;
            k1 += 0xBB67AE85U;
        }
        const Lanes first = (x0 & kLow) | (x2 << 32U);
        const Lanes second = (x1 & kLow) | (x3 << 32U);
        std::memcpy(tile.first + 2 * i, &first, sizeof first);
        std::memcpy(tile.second + 2 * i, &second, sizeof second);
    }
}

}  // namespace mobalab::sim
