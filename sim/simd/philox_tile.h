#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "sim/simd/lanes.h"
#include "sim/streams/philox.h"
#include "sim/streams/philox_constants.h"

namespace mobalab::sim::MOBALAB_SIMD {

inline constexpr std::uint64_t kLowHalf = 0xffffffffU;

/// The four words of kLanes blocks under way: word w of lane l's block is the low half of x[w][l]. x[1] and x[3] keep a
/// product's high half in their high halves: harmless, multiplications take low halves.
struct PhiloxLanes {
    U64 x[4];
};

/// One round; `key` is the key of round 0.
template <int kRound>
MOBALAB_SIM_INLINE void philox_round(PhiloxLanes& lanes, PhiloxKey key) {
    U64(&x)[4] = lanes.x;
    const U64 product0 = multiply_low_halves(x[0], all_lanes(kPhiloxM0));
    const U64 product1 = multiply_low_halves(x[2], all_lanes(kPhiloxM1));
    x[0] = (product1 >> 32U) ^ x[1] ^ std::uint64_t{key.lo + kRound * kPhiloxW0};
    x[2] = (product0 >> 32U) ^ x[3] ^ std::uint64_t{key.hi + kRound * kPhiloxW1};
    x[1] = product1;
    x[3] = product0;
}

/// The four words of kLanes blocks as two registers of pairs, which is what every transform of this room consumes: word
/// 0 beside word 2, word 1 beside word 3.
struct WordPairs {
    U32 first;
    U32 second;
};

/// The tenth round. Pairs need no shift: high halves move to where they are added.
MOBALAB_SIM_INLINE WordPairs last_round(const PhiloxLanes& lanes, PhiloxKey key) {
    const U64(&x)[4] = lanes.x;
    const U64 product0 = multiply_low_halves(x[0], all_lanes(kPhiloxM0));
    const U64 product1 = multiply_low_halves(x[2], all_lanes(kPhiloxM1));
    const std::uint64_t keys = (std::uint64_t{key.hi + 9 * kPhiloxW1} << 32U) | (key.lo + 9 * kPhiloxW0);
    return {pack_high_halves(product1, product0) ^ pack_low_halves(x[1], x[3]) ^ reinterpret_cast<U32>(all_lanes(keys)),
            pack_low_halves(product1, product0)};
}

/// Rounds [kFirst, 9) of several independent sets of lanes, interleaved so that the multiplications of one hide those
/// of another.
template <int kFirst, std::size_t kSets>
MOBALAB_SIM_INLINE void philox_rounds(PhiloxLanes (&sets)[kSets], PhiloxKey key) {
    if constexpr (kFirst < 9) {
#pragma GCC unroll 8
        for (std::size_t s = 0; s < kSets; ++s) {
            philox_round<kFirst>(sets[s], key);
        }
        philox_rounds<kFirst + 1>(sets, key);
    }
}

/// Rounds [kFirst, 10).
template <int kFirst, std::size_t kSets>
MOBALAB_SIM_INLINE void finish_words(WordPairs (&words)[kSets], PhiloxLanes (&sets)[kSets], PhiloxKey key) {
    philox_rounds<kFirst>(sets, key);
#pragma GCC unroll 8
    for (std::size_t s = 0; s < kSets; ++s) {
        words[s] = last_round(sets[s], key);
    }
}

/// A tile of consecutive Philox blocks, as two rows of words that need no shuffle to be used side by side: `first`
/// holds w0, w2 of block 0, then w0, w2 of block 1, ...; `second` holds w1, w3 likewise. Element i of both rows is the
/// i-th word pair of the stream.
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
MOBALAB_SIM_INLINE void fill_tile(PhiloxTile<kBlocks>& tile, PhiloxKey key, std::uint64_t subsequence,
                                  std::uint64_t draw) {
    static_assert(std::has_single_bit(kBlocks) && kBlocks % kLanes == 0);
    static_assert(std::endian::native == std::endian::little);
    const U64 base = lane_numbers() + (draw & kLowHalf);
    for (std::size_t i = 0; i < kBlocks; i += kLanes) {
        PhiloxLanes lanes[1] = {
            {{base + i, all_lanes(draw >> 32U), all_lanes(subsequence & kLowHalf), all_lanes(subsequence >> 32U)}}};
        WordPairs words[1];
        finish_words<0>(words, lanes, key);
        std::memcpy(tile.first + 2 * i, &words[0].first, sizeof words[0].first);
        std::memcpy(tile.second + 2 * i, &words[0].second, sizeof words[0].second);
    }
}

}  // namespace mobalab::sim::MOBALAB_SIMD
