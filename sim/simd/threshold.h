#pragma once

#include "sim/simd/philox_tile.h"
#include "sim/streams/threshold_stream.h"
#include "sim/tables/octave_table.h"

namespace mobalab::sim::MOBALAB_SIMD {

/// One trial a lane. After two rounds the state is what the trials (lanes) and the draw (uniform) contribute, xored.
struct TrialLanes {
    U64 x0;
    U64 x2;
    U64 x3;
};

struct DrawOperands {
    std::uint64_t x0;
    std::uint64_t x1;
    std::uint64_t x2;
};

MOBALAB_SIM_INLINE TrialLanes trial_lanes(std::uint64_t first_trial, PhiloxKey key) {
    const U64 product1 = multiply_low_halves(lane_numbers() + (first_trial & kLowHalf), all_lanes(kPhiloxM1));
    const U64 x0_after_1 = (product1 >> 32U) ^ std::uint64_t{key.lo};
    const U64 product0 = multiply_low_halves(x0_after_1, all_lanes(kPhiloxM0));
    return {product1 ^ std::uint64_t{key.lo + kPhiloxW0}, (product0 >> 32U) ^ std::uint64_t{key.hi + kPhiloxW1},
            product0};
}

/// `trial_high`: high half of the trial numbers; draw < 2^32.
MOBALAB_SIM_INLINE DrawOperands draw_operands(std::uint64_t draw, std::uint64_t trial_high, PhiloxKey key) {
    const std::uint64_t product0 = draw * kPhiloxM0;
    const std::uint64_t x2_after_1 = (product0 >> 32U) ^ trial_high ^ key.hi;
    const std::uint64_t product1 = x2_after_1 * kPhiloxM1;
    return {product1 >> 32U, product1 & kLowHalf, product0 & kLowHalf};
}

MOBALAB_SIM_INLINE PhiloxLanes after_two_rounds(const TrialLanes& trials, const DrawOperands& draw) {
    return {{trials.x0 ^ draw.x0, all_lanes(draw.x1), trials.x2 ^ draw.x2, trials.x3}};
}

/// words[i] = the first two words of draw 0 of trial first_trial + i.
inline void signal_words(std::uint64_t* words, const TrialRun& run) {
    const DrawOperands draw = draw_operands(0, run.first_trial >> 32U, run.key);
    for (std::size_t i = 0; i < run.trials; i += kLanes) {
        PhiloxLanes lanes[1] = {after_two_rounds(trial_lanes(run.first_trial + i, run.key), draw)};
        WordPairs pairs[1];
        finish_words<2>(pairs, lanes, run.key);
        const U32 both = pack_low_halves(reinterpret_cast<U64>(pairs[0].first), reinterpret_cast<U64>(pairs[0].second));
        const std::size_t left = run.trials - i < kLanes ? run.trials - i : kLanes;
        std::memcpy(words + i, &both, left * sizeof *words);
    }
}

/// words[i] becomes octave_threshold() of it.
inline void thresholds_of(std::uint64_t* words, std::size_t count, const double* coefficients) {
    for (std::size_t i = 0; i < count; ++i) {
        words[i] = octave_threshold(coefficients, words[i]);
    }
}

/// First digits below, and ties with, the thresholds of one register of trials.
struct DigitCounts {
#if defined(__AVX512BW__)
    using Ties = __mmask32;
#else
    using Ties = U16;
#endif
    U16 below;  ///< a count a halfword
    Ties ties;  ///< a bit, or all bits, a halfword

    MOBALAB_SIM_INLINE void clear() {
        below = U16{};
        ties = Ties{};
    }

    MOBALAB_SIM_INLINE void add(U32 digits, U16 threshold) {
#if defined(__AVX512BW__)
        const auto w = reinterpret_cast<__m512i>(digits);
        const auto t = reinterpret_cast<__m512i>(threshold);
        const auto count = reinterpret_cast<__m512i>(below);
        const __mmask32 less = _mm512_cmplt_epu16_mask(w, t);
        below = reinterpret_cast<U16>(_mm512_mask_sub_epi16(count, less, count, _mm512_set1_epi16(-1)));
        ties |= _mm512_cmpeq_epi16_mask(w, t);
#else
        const U16 w = reinterpret_cast<U16>(digits);
        below -= reinterpret_cast<U16>(w < threshold);
        ties |= reinterpret_cast<U16>(w == threshold);
#endif
    }

    MOBALAB_SIM_INLINE bool tie_in(std::size_t lane) const {
#if defined(__AVX512BW__)
        return ((static_cast<std::uint32_t>(ties) >> (4 * lane)) & 0xfU) != 0;
#else
        return reinterpret_cast<U64>(ties)[lane] != 0;
#endif
    }

    /// The four halfwords of every 64-bit lane added up.
    MOBALAB_SIM_INLINE U64 totals() const {
        constexpr std::uint64_t kEven = 0x0000ffff0000ffffU;
        const U64 halves = reinterpret_cast<U64>(below);
        const U64 words = (halves & kEven) + ((halves >> 16U) & kEven);
        return (words & kLowHalf) + (words >> 32U);
    }
};

/// Halfwords of (w0, w2) and of (w1, w3) that are digits of existing blocks, where a draw has `blocks` of them.
struct DigitMasks {
    std::uint64_t first;
    std::uint64_t second;
};

MOBALAB_SIM_INLINE DigitMasks digit_masks(std::uint32_t blocks) {
    DigitMasks masks{0, 0};
    for (std::uint32_t b = 0; b < blocks; ++b) {
        const std::uint32_t word = b / 2;
        (word % 2 == 0 ? masks.first : masks.second) |= std::uint64_t{0xffff} << (32U * (word / 2) + 16U * (b % 2));
    }
    return masks;
}

/// below[i] += noise blocks of trial first_trial + i whose first digit is below that of thresholds[i], and ties[i] |= 1
/// where one is equal; noise blocks of draws [first_draw, last_draw), the last draw of the trial cut at noise_blocks.
inline void count_digits(std::uint32_t* below, std::uint8_t* ties, const std::uint64_t* thresholds, const TrialRun& run,
                         std::uint32_t first_draw, std::uint32_t last_draw) {
    constexpr std::size_t kSets = kLanes == 8 ? 4 : 2;
    constexpr std::size_t kMaxDraws = 512;  // their operands stay in the first cache
    DrawOperands draws[kMaxDraws];
    while (first_draw < last_draw) {
        const std::uint32_t left = last_draw - first_draw;
        const std::uint32_t count = left < kMaxDraws ? left : kMaxDraws;
        for (std::uint32_t i = 0; i < count; ++i) {
            draws[i] = draw_operands(first_draw + i, run.first_trial >> 32U, run.key);
        }
        const bool cut = (first_draw + count - 1) * std::uint64_t{8} > run.noise_blocks;
        const std::uint32_t whole = cut ? count - 1 : count;
        for (std::size_t i = 0; i < run.trials; i += kSets * kLanes) {
            TrialLanes trials[kSets];
            U16 threshold[kSets];
            DigitCounts counts[kSets];
            for (std::size_t s = 0; s < kSets; ++s) {
                trials[s] = trial_lanes(run.first_trial + i + s * kLanes, run.key);
                counts[s].clear();
                U64 digit{};
                for (std::size_t lane = 0; lane < kLanes; ++lane) {
                    const std::size_t trial = i + s * kLanes + lane;
                    digit[lane] = trial < run.trials ? (thresholds[trial] >> 48U) * 0x0001000100010001U : 0;
                }
                threshold[s] = reinterpret_cast<U16>(digit);
            }
            for (std::uint32_t d = 0; d < whole; ++d) {
                PhiloxLanes lanes[kSets];
                WordPairs words[kSets];
#pragma GCC unroll 8
                for (std::size_t s = 0; s < kSets; ++s) {
                    lanes[s] = after_two_rounds(trials[s], draws[d]);
                }
                finish_words<2>(words, lanes, run.key);
#pragma GCC unroll 8
                for (std::size_t s = 0; s < kSets; ++s) {
                    counts[s].add(words[s].first, threshold[s]);
                    counts[s].add(words[s].second, threshold[s]);
                }
            }
            for (std::size_t s = 0; s < kSets; ++s) {
                if (cut) {  // a digit of 0 is never above; its false ties only cost a second look
                    const DigitMasks masks = digit_masks(run.noise_blocks - (first_draw + count - 2) * 8);
                    PhiloxLanes lanes[1] = {after_two_rounds(trials[s], draws[whole])};
                    WordPairs words[1];
                    finish_words<2>(words, lanes, run.key);
                    const U64 all = reinterpret_cast<U64>(threshold[s]);
                    counts[s].add(words[0].first, reinterpret_cast<U16>(all & masks.first));
                    counts[s].add(words[0].second, reinterpret_cast<U16>(all & masks.second));
                }
                const U64 totals = counts[s].totals();
                for (std::size_t lane = 0; lane < kLanes && i + s * kLanes + lane < run.trials; ++lane) {
                    below[i + s * kLanes + lane] += static_cast<std::uint32_t>(totals[lane]);
                    if (counts[s].tie_in(lane)) {
                        ties[i + s * kLanes + lane] = 1;
                    }
                }
            }
        }
        first_draw += count;
    }
}

/// The blocks of one trial whose first digit equals `digit`, from block *next on: stores up to `room` of them, advances
/// *next past what was looked at, and returns how many were stored.
inline std::size_t tied_blocks(std::uint32_t* blocks, std::size_t room, std::uint32_t* next, const TrialRun& run,
                               std::uint16_t digit) {
    constexpr std::size_t kBlocks = 64;
    std::size_t found = 0;
    while (*next < run.noise_blocks && found + 8 * kBlocks <= room) {
        const std::uint32_t first_draw = (1 + *next / 8) & ~static_cast<std::uint32_t>(kBlocks - 1);
        PhiloxTile<kBlocks> tile;
        fill_tile(tile, run.key, run.first_trial, first_draw);
        std::uint32_t any = 0;
        for (std::size_t i = 0; i < 2 * kBlocks; ++i) {
            const std::uint32_t x = tile.first[i];
            const std::uint32_t y = tile.second[i];
            any |= (x & 0xffffU) == digit || (x >> 16U) == digit || (y & 0xffffU) == digit || (y >> 16U) == digit ? 1U
                                                                                                                  : 0U;
        }
        const std::uint64_t past = (first_draw + kBlocks - 1) * std::uint64_t{8};
        const auto end = static_cast<std::uint32_t>(past < run.noise_blocks ? past : run.noise_blocks);
        for (std::uint32_t b = any != 0 ? *next : end; b < end; ++b) {
            const std::uint32_t draw = 1 + b / 8 - first_draw;
            const std::uint32_t word = b % 8 / 2;
            const std::uint32_t pair = (word % 2 == 0 ? tile.first : tile.second)[2 * draw + word / 2];
            if (((pair >> (16U * (b % 2))) & 0xffffU) == digit) {
                blocks[found++] = b;
            }
        }
        *next = end;
    }
    return found;
}

}  // namespace mobalab::sim::MOBALAB_SIMD
