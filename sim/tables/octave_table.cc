#include "sim/tables/octave_table.h"

#include <cmath>

#include "sim/tables/chebyshev.h"

namespace mobalab::sim {
namespace {

using Interpolant = Chebyshev<OctaveTable::kCoefficients>;

/// One piece: m = 2^(octave - 1) (1.5 + t), t from `low` to low + width.
void fill_piece(double* coefficients, const OctaveTable::Function& f, bool upper, int octave, int piece) {
    if (octave == 0) {  // the single number 1/2
        coefficients[0] = piece == 0 ? f(0x1p-54, upper) : 0.0;
        return;
    }
    constexpr double kWidth = 1.0 / OctaveTable::kPieces;
    std::array<double, OctaveTable::kCoefficients> values{};
    for (std::size_t i = 0; i < values.size(); ++i) {
        const double mantissa = 1.0 + kWidth * (piece + 0.5 * (1.0 + Interpolant::point(i)));
        values[i] = f(std::ldexp(mantissa, octave - 1 - OctaveTable::kOctaves), upper);
    }
    const auto powers = Interpolant::through(values).powers();
    // octave_value() stretches the piece to t in [-1/2, 1/2): twice t is the interpolant's variable.
    for (std::size_t k = 0; k < powers.size(); ++k) {
        coefficients[k] = std::ldexp(powers[k], static_cast<int>(k));
    }
}

}  // namespace

OctaveTable OctaveTable::of(const Function& f) {
    OctaveTable table;
    table.coefficients.resize(kSize);
    double* next = table.coefficients.data();
    for (const bool upper : {false, true}) {
        for (int octave = 0; octave < kOctaves; ++octave) {
            for (int piece = 0; piece < kPieces; ++piece) {
                fill_piece(next, f, upper, octave, piece);
                next += kCoefficients;
            }
        }
    }
    return table;
}

}  // namespace mobalab::sim
