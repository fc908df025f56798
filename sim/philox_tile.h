#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

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
/// One loop of plain 64-bit lanes: compilers turn (x & 0xffffffff) * M into one widening multiply a lane, and as only
/// c0 differs between lanes they hoist what rounds 1 to 3 have in common.
template <std::size_t kBlocks>
inline void fill_tile(PhiloxTile<kBlocks>& tile, PhiloxKey key, std::uint64_t subsequence, std::uint64_t draw) {
    static_assert(std::has_single_bit(kBlocks) && std::endian::native == std::endian::little);
    constexpr std::uint64_t kMask = 0xffffffffU;
    const std::uint64_t base = draw & kMask;
    const std::uint64_t c1 = draw >> 32U;
    const std::uint64_t c2 = subsequence & kMask;
    const std::uint64_t c3 = subsequence >> 32U;
    alignas(64) std::uint64_t first[kBlocks];
    alignas(64) std::uint64_t second[kBlocks];
    for (std::size_t i = 0; i < kBlocks; ++i) {
        std::uint64_t x0 = base + i;
        std::uint64_t x1 = c1;
        std::uint64_t x2 = c2;
        std::uint64_t x3 = c3;
        std::uint64_t k0 = key.lo;
        std::uint64_t k1 = key.hi;
#pragma GCC unroll 10
        for (int round = 0; round < 10; ++round) {
            // The high halves of x1, x3 hold the other half of a product: harmless, every use masks to 32 bits.
            const std::uint64_t product0 = (x0 & kMask) * 0xD2511F53U;
            const std::uint64_t product1 = (x2 & kMask) * 0xCD9E8D57U;
            x0 = (product1 >> 32U) ^ x1 ^ k0;
            x2 = (product0 >> 32U) ^ x3 ^ k1;
            x1 = product1;
            x3 = product0;
            k0 = (k0 + 0x9E3779B9U) & kMask;
            k1 = (k1 + 0xBB67AE85U) & kMask;
        }
        first[i] = (x0 & kMask) | (x2 << 32U);
        second[i] = (x1 & kMask) | (x3 << 32U);
    }
    std::memcpy(tile.first, first, sizeof first);
    std::memcpy(tile.second, second, sizeof second);
}

}  // namespace mobalab::sim
