#include "sim/tables/score_table.h"

#include <array>
#include <cmath>

#include "sim/tables/chebyshev.h"

namespace mobalab::sim {

ScoreTable ScoreTable::of(const std::function<double(double)>& quantile) {
    using Interpolant = Chebyshev<kCoefficients>;
    ScoreTable table;
    // |int32 + 1/2| = 1/2: a lone number below the first octave.
    table.c[0][0] = static_cast<float>(quantile(0x1p-33));
    for (std::size_t octave = 1; octave < kOctaves; ++octave) {
        std::array<double, kCoefficients> scores{};
        for (std::size_t i = 0; i < kCoefficients; ++i) {
            const double mantissa = 1.5 + 0.5 * Interpolant::point(i);
            scores[i] = quantile(std::ldexp(mantissa, static_cast<int>(octave) - 33));
        }
        const auto powers = Interpolant::through(scores).powers();
        for (std::size_t k = 0; k < kCoefficients; ++k) {
            table.c[k][octave] = static_cast<float>(std::ldexp(powers[k], static_cast<int>(k)));
        }
    }
    return table;
}

}  // namespace mobalab::sim
