#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "sim/streams/transforms.h"

namespace mobalab::sim {

/// Inverse distribution function of a symmetric law, from one 32-bit word: the sign is random and the upper tail of the
/// magnitude is U / 2, U = |int32(w) + 1/2| / 2^31 as in radius_word(). A polynomial of degree 6 for each of the 32
/// octaves of U, so that the tail, which ends at 2^-33, is as exact as the middle.
///
/// Error: 1e-6 of a standard deviation (interpolation) plus one float rounding, 6e-8 of the score; the probability of
/// exceeding any score is right to 5e-6 of itself down to a tail of 1e-4, and to 1e-4 at the far end
/// (tests/sim/tables/score_curves_test.cc measures it).
struct ScoreTable {
    static constexpr std::size_t kOctaves = 32;
    static constexpr std::size_t kCoefficients = 7;

    alignas(64) float c[kCoefficients][kOctaves] = {};

    /// quantile(tail): the score >= 0 whose upper tail is `tail` in (0, 1/2].
    static ScoreTable of(const std::function<double(double)>& quantile);
};

/// Works on a float or on a register of them. `lookup(power, octave)` reads the table.
template <class Float, class Lookup>
MOBALAB_SIM_INLINE Float table_score(typename Ops<Float>::Word word, Lookup lookup) {
    using O = Ops<Float>;
    const Float f = O::of_int(O::signed_of(word)) + 0.5F;
    const auto sign = O::bits(f) & 0x80000000U;
    // Rounding may reach 2^31, which would begin the next octave.
    const auto magnitude = O::smaller(O::signed_of(O::bits(f) ^ sign), O::all_int(0x4effffff));
    const auto octave = (magnitude >> 23) - 126;
    const Float t = O::mantissa(O::of_bits(O::unsigned_of(magnitude))) - 1.5F;
    Float score = lookup(6, octave);
    score = O::fma(score, t, lookup(5, octave));
    score = O::fma(score, t, lookup(4, octave));
    score = O::fma(score, t, lookup(3, octave));
    score = O::fma(score, t, lookup(2, octave));
    score = O::fma(score, t, lookup(1, octave));
    score = O::fma(score, t, lookup(0, octave));
    return flip_sign(score, sign);
}

inline float table_score(const ScoreTable& table, std::uint32_t word) {
    return table_score<float>(
        word, [&](std::size_t power, std::int32_t octave) { return table.c[power][static_cast<std::size_t>(octave)]; });
}

}  // namespace mobalab::sim
