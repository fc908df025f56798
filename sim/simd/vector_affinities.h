#pragma once

#include <cstring>

#include "sim/simd/polar_stages.h"
#include "sim/streams/vector_rows.h"

namespace mobalab::sim::MOBALAB_SIMD {

/// Keys of one register: partial sums of coordinates 4j, 4j+1 in the even lanes, of 4j+2, 4j+3 in the odd ones.
struct KeySums {
    F32 dot;
    F32 norm2;
};

/// What a register of rows has in common over all quads: the state after three rounds but for the parts of
/// QuadOperands.
struct RowLanes {
    U64 x2_after_2;
    U64 x0_after_3;
    U64 x2_after_3;
    U64 x3_after_3;
};

MOBALAB_SIM_INLINE RowLanes row_lanes(U64 row, PhiloxKey key, std::uint64_t trial) {
    const std::uint32_t k0[3] = {key.lo, key.lo + kPhiloxW0, key.lo + 2 * kPhiloxW0};
    const std::uint32_t k1[3] = {key.hi, key.hi + kPhiloxW1, key.hi + 2 * kPhiloxW1};
    const std::uint64_t x1_after_1 = ((trial & kLowHalf) * kPhiloxM1) & kLowHalf;
    const U64 product0 = multiply_low_halves(row, all_lanes(kPhiloxM0));
    const U64 x2_after_1 = (product0 >> 32U) ^ ((trial >> 32U) ^ k1[0]);
    const U64 product1 = multiply_low_halves(x2_after_1, all_lanes(kPhiloxM1));
    const U64 x0_after_2 = (product1 >> 32U) ^ (x1_after_1 ^ k0[1]);
    const U64 product = multiply_low_halves(x0_after_2, all_lanes(kPhiloxM0));
    return {product0, product1 ^ std::uint64_t{k0[2]}, (product >> 32U) ^ std::uint64_t{k1[2]}, product};
}

MOBALAB_SIM_INLINE PhiloxLanes after_three_rounds(const RowLanes& row, const QuadOperands& quad) {
    const U64 product1 = multiply_low_halves(row.x2_after_2 ^ quad.x2, all_lanes(kPhiloxM1));
    return {{(product1 >> 32U) ^ row.x0_after_3, product1, row.x2_after_3 ^ quad.x3, row.x3_after_3}};
}

/// Pairs of floats in every 64-bit lane.
MOBALAB_SIM_INLINE F32 all_pairs(const float (&pair)[2]) {
    return reinterpret_cast<F32>(all_lanes(__builtin_bit_cast(std::uint64_t, pair)));
}

MOBALAB_SIM_INLINE F32 add_to_dot(F32 dot, const PolarPairOf<F32>& polar, const QuadOperands& quad) {
    using O = Ops<F32>;
    const F32 along = O::fma(polar.sin, all_pairs(quad.odd_coords), polar.cos * all_pairs(quad.even_coords));
    return O::fma(polar.radius, along, dot);
}

/// Keys of a register: even and odd lanes added up, in the low halves of the 64-bit lanes.
MOBALAB_SIM_INLINE U64 whole_sums(F32 partial) {
    return reinterpret_cast<U64>(partial + reinterpret_cast<F32>(reinterpret_cast<U64>(partial) >> 32U));
}

/// dot / norm in steps of 2^-30 of the keys of two registers, side by side for one root and one division.
MOBALAB_SIM_INLINE U64 affinities_of(const KeySums& even, const KeySums& odd) {
    using O = Ops<F32>;
    const F32 dot = reinterpret_cast<F32>(pack_low_halves(whole_sums(even.dot), whole_sums(odd.dot)));
    const F32 norm2 = reinterpret_cast<F32>(pack_low_halves(whole_sums(even.norm2), whole_sums(odd.norm2)));
    return reinterpret_cast<U64>(O::to_int(dot / O::sqrt(norm2) * kAffinityScale));
}

MOBALAB_SIM_INLINE void store_low_halves(std::int32_t* out, U64 lanes) {
    for (std::size_t i = 0; i < kLanes; ++i) {
        out[i] = static_cast<std::int32_t>(lanes[i]);
    }
}

template <std::size_t kSets>
MOBALAB_SIM_INLINE void store_affinities(std::int32_t* out, const KeySums (&sums)[kSets]) {
#pragma GCC unroll 8
    for (std::size_t s = 0; s < kSets; s += 2) {
        const std::size_t other = s + 1 < kSets ? s + 1 : s;
        const U64 steps = affinities_of(sums[s], sums[other]);
        store_low_halves(out + s * kLanes, steps);
        if (other != s) {
            store_low_halves(out + other * kLanes, steps >> 32U);
        }
    }
}

/// Rounds 3 .. 9 of the next words with the stages of the current ones between them; the current words are used in
/// stage 0 alone, and the next take their place in the last.
template <int kStage, std::size_t kSets>
MOBALAB_SIM_INLINE void interleaved_stage(PhiloxLanes (&next)[kSets], PolarStages (&polar)[kSets],
                                          WordPairs (&words)[kSets], PhiloxKey key) {
    const auto constants = PolarStages::constants<kStage>();
#pragma GCC unroll 8
    for (std::size_t s = 0; s < kSets; ++s) {
        if constexpr (kStage < 6) {
            philox_round<kStage + 3>(next[s], key);
        } else {
            words[s] = last_round(next[s], key);
        }
        polar[s].template run<kStage>(words[s], constants);
    }
    if constexpr (kStage < 6) {
        interleaved_stage<kStage + 1>(next, polar, words, key);
    }
}

/// Adds the quad whose words are given to the sums, and replaces the words by those of `next_rows` and `next_quad`.
template <std::size_t kSets>
MOBALAB_SIM_INLINE void add_quad(KeySums (&sums)[kSets], WordPairs (&words)[kSets], const QuadOperands& quad,
                                 const RowLanes (&next_rows)[kSets], const QuadOperands& next_quad, PhiloxKey key) {
    PhiloxLanes next[kSets];
    PolarStages polar[kSets];
#pragma GCC unroll 8
    for (std::size_t s = 0; s < kSets; ++s) {
        next[s] = after_three_rounds(next_rows[s], next_quad);
    }
    interleaved_stage<0>(next, polar, words, key);
#pragma GCC unroll 8
    for (std::size_t s = 0; s < kSets; ++s) {
        sums[s].dot = add_to_dot(sums[s].dot, polar[s].result(), quad);
        sums[s].norm2 = sums[s].norm2 + polar[s].result().squared_radius;
    }
}

/// The same for the last quad where head_dim is no multiple of 4: `used` of its coordinates count.
template <std::size_t kSets>
MOBALAB_SIM_INLINE void add_part_of_quad(KeySums (&sums)[kSets], WordPairs (&words)[kSets], const QuadOperands& quad,
                                         std::int64_t used, const RowLanes (&next_rows)[kSets],
                                         const QuadOperands& next_quad, PhiloxKey key) {
    using O = Ops<F32>;
    PhiloxLanes next[kSets];
    const float whole[2] = {used >= 2 ? 1.0F : 0.0F, 0.0F};
    const float half[2] = {used == 1 ? 1.0F : 0.0F, used == 3 ? 1.0F : 0.0F};
    for (std::size_t s = 0; s < kSets; ++s) {
        const PolarPairOf<F32> polar = polar_normal_pair<F32>(words[s].first, words[s].second);
        const F32 first = polar.radius * polar.cos;
        sums[s].dot = add_to_dot(sums[s].dot, polar, quad);
        sums[s].norm2 = O::fma(all_pairs(whole), polar.squared_radius, sums[s].norm2);
        sums[s].norm2 = O::fma(all_pairs(half), first * first, sums[s].norm2);
        next[s] = after_three_rounds(next_rows[s], next_quad);
    }
    finish_words<3>(words, next, key);
}

template <std::size_t kSets>
MOBALAB_SIM_INLINE void set_rows(RowLanes (&rows)[kSets], std::uint64_t first_row, PhiloxKey key, std::uint64_t trial) {
    for (std::size_t s = 0; s < kSets; ++s) {
        rows[s] = row_lanes(lane_numbers() + (first_row + s * kLanes), key, trial);
    }
}

/// out[i] = affinity, in steps of 2^-30, of the trial's query with the key in row first_row + i
/// (sim/streams/vector_rows.h).
inline void vector_affinities(std::int32_t* out, std::size_t count, PhiloxKey key, std::uint64_t trial,
                              std::uint64_t first_row, const QuadOperands* quads, std::int64_t head_dim) {
    constexpr std::size_t kSets = kLanes == 8 ? 3 : kLanes == 4 ? 2 : 1;
    constexpr std::size_t kGroup = kSets * kLanes;
    const std::int64_t quad_count = quads_of(head_dim);
    RowLanes rows[kSets];
    WordPairs words[kSets];
    PhiloxLanes first_words[kSets];
    set_rows(rows, first_row, key, trial);
    for (std::size_t s = 0; s < kSets; ++s) {
        first_words[s] = after_three_rounds(rows[s], quads[0]);
    }
    finish_words<3>(words, first_words, key);
    for (std::size_t i = 0; i < count; i += kGroup) {
        KeySums sums[kSets];
        for (KeySums& sum : sums) {
            sum = {F32{}, F32{}};
        }
        const std::int64_t last = quad_count - 1;
        for (std::int64_t j = 0; j < last; ++j) {
            add_quad(sums, words, quads[j], rows, quads[j + 1], key);
        }
        set_rows(rows, first_row + i + kGroup, key, trial);
        if (head_dim % 4 == 0) {
            add_quad(sums, words, quads[last], rows, quads[0], key);
        } else {
            add_part_of_quad(sums, words, quads[last], head_dim % 4, rows, quads[0], key);
        }
        if (count - i >= kGroup) {
            store_affinities(out + i, sums);
        } else {
            std::int32_t steps[kGroup];
            store_affinities(steps, sums);
            std::memcpy(out + i, steps, (count - i) * sizeof *steps);
        }
    }
}

}  // namespace mobalab::sim::MOBALAB_SIMD
