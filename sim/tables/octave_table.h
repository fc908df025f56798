#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "sim/streams/transforms.h"

namespace mobalab::sim {

/// A smooth positive function of a uniform variable U as piecewise polynomials of degree 7, so that a trial needs no
/// logarithm and no inverse: every octave of U and of 1 - U, down to 2^-53, is cut into 8 pieces. One 64-bit word is
/// one U: bit 63 says which half, the low 52 bits the distance from the nearer end, (m + 1/2) 2^-53. Evaluated with +,
/// -, * and fma of doubles alone: the same table gives the same bits on every machine.
struct OctaveTable {
    static constexpr int kOctaves = 53;
    static constexpr int kPieces = 8;
    static constexpr int kCoefficients = 8;
    static constexpr std::size_t kSize = std::size_t{2} * kOctaves * kPieces * kCoefficients;

    std::vector<double> coefficients;  ///< [half][octave][piece][power], kSize in all

    /// f(from_end, upper): the function at U = from_end, or at U = 1 - from_end where `upper`; from_end in (0, 1/2].
    using Function = std::function<double(double from_end, bool upper)>;
    static OctaveTable of(const Function& f);
};

MOBALAB_SIM_INLINE double octave_value(const double* coefficients, std::uint64_t word) {
    // m + 1/2 exactly: the integer conversion by way of the mantissa works on every instruction set.
    const std::uint64_t m = word & 0xfffffffffffffU;
    const double x = (std::bit_cast<double>(m | 0x4330000000000000U) - 0x1p52) + 0.5;
    const std::uint64_t bits = std::bit_cast<std::uint64_t>(x);
    const std::uint64_t octave = (bits >> 52U) - 1022U;
    const std::uint64_t piece = ((word >> 63U) * OctaveTable::kOctaves + octave) * OctaveTable::kPieces +
                                ((bits >> 49U) & (OctaveTable::kPieces - 1U));
    const double* c = coefficients + piece * OctaveTable::kCoefficients;
    const double t = std::bit_cast<double>(((bits << 3U) & 0xfffffffffffffU) | 0x3ff0000000000000U) - 1.5;
    double value = c[7];
    value = std::fma(value, t, c[6]);
    value = std::fma(value, t, c[5]);
    value = std::fma(value, t, c[4]);
    value = std::fma(value, t, c[3]);
    value = std::fma(value, t, c[2]);
    value = std::fma(value, t, c[1]);
    return std::fma(value, t, c[0]);
}

/// A table of probabilities times 2^64, as the integer a 64-bit uniform must be below.
MOBALAB_SIM_INLINE std::uint64_t octave_threshold(const double* coefficients, std::uint64_t word) {
    const double value = octave_value(coefficients, word);
    constexpr double kMost = 0x1.fffffffffffffp63;
    return static_cast<std::uint64_t>(value < 0.0 ? 0.0 : value < kMost ? value : kMost);
}

}  // namespace mobalab::sim
