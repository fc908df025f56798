// The tables samplers draw from, against the laws they are made of.
#include "sim/tables/score_curves.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "analysis/affinity_sum.h"
#include "analysis/hit_probability.h"
#include "analysis/hit_problem.h"
#include "analysis/normal_law.h"
#include "sim/engine/conditional.h"
#include "sim/engine/engine.h"
#include "sim/tables/octave_table.h"
#include "sim/tables/score_table.h"
#include "tests/sim/points.h"

namespace mobalab::sim {
namespace {

using analysis::Model;
using analysis::RoutingPoint;
using testing::point_of;

/// The word of the uniform nearest to `from_end` from 0 or 1.
std::uint64_t word_of(double from_end, bool upper) {
    return (static_cast<std::uint64_t>(upper) << 63U) | static_cast<std::uint64_t>(from_end * 0x1p53);
}

TEST(OctaveTable, is_the_function_it_was_made_of) {
    const auto f = [](double from_end, bool upper) {
        return upper ? 2.0 - std::sqrt(from_end) : std::pow(from_end, 1.7) + 1e-3;
    };
    const OctaveTable table = OctaveTable::of(f);
    double worst = 0.0;
    for (const bool upper : {false, true}) {
        for (double x = 0.5; x > 1e-15; x *= 0.977) {
            const std::uint64_t word = word_of(x, upper);
            const double from_end = (static_cast<double>(word & 0xfffffffffffffU) + 0.5) * 0x1p-53;
            const double exact = f(from_end, upper);
            worst = std::fmax(worst, std::abs(octave_value(table.coefficients.data(), word) / exact - 1.0));
        }
    }
    EXPECT_LT(worst, 1e-12);
    EXPECT_NEAR(octave_value(table.coefficients.data(), 0), 1e-3, 1e-15) << "the very end";
}

// Every kind of law: normal, smooth sums, rough sums of few affinities with points where the density is not smooth.
const std::vector<RoutingPoint> kPoints = {
    point_of(Model::gaussian, 64, 16, 64, 9, 1, 0.9),      point_of(Model::gaussian_fixed, 64, 16, 64, 9, 4, 0.9, 0.2),
    point_of(Model::sphere, 64, 16, 64, 9, 1, 0.9),        point_of(Model::sphere, 1024, 16, 1024, 8, 1, 0.5),
    point_of(Model::sphere, 128, 512, 63, 8, 4, 0.8, 0.2), point_of(Model::sphere, 16, 2, 40, 3, 1, 0.7),
    point_of(Model::sphere, 5, 3, 40, 3, 1, 0.7),          point_of(Model::sphere, 3, 4, 20, 3, 2, 0.6, 0.4),
    point_of(Model::sphere, 2, 3, 20, 3, 1, 0.8),          point_of(Model::sphere, 64, 8, 512, 4, 7, 0.2, 0.1),
    point_of(Model::sphere, 256, 1024, 4096, 16, 1, 1.0),  point_of(Model::sphere, 8, 2, 20, 3, 1, 0.9),
};

// At scores spread over the signal's law: U = P(S <= s) and P(X > s) by the laws themselves.
TEST(NoiseAboveSignal, is_the_exact_curve) {
    for (RoutingPoint point : kPoints) {
        const OctaveTable table = noise_above_signal_table(point);
        point.candidates = 2;
        point.topk = 2;
        const analysis::TopKProblem problem = analysis::top_k_problem(point);
        double worst = 0.0;
        int judged = 0;
        for (double z = -5.0; z <= 5.0; z += 0.137) {
            const double s = problem.signal_mean + z * problem.signal_sd;
            if (s <= problem.signal_low || s >= problem.signal_high) {
                continue;
            }
            const bool bounded = std::isfinite(problem.signal_low);
            const analysis::Score score = bounded ? analysis::Score{s, problem.signal_low, s - problem.signal_low,
                                                                    problem.signal_high, problem.signal_high - s}
                                                  : analysis::Score{.value = s};
            const analysis::LogLaw signal = problem.signal->at(score);
            const bool upper = signal.upper < signal.lower;
            const double from_end = std::exp(upper ? signal.upper : signal.lower);
            const double exact = std::exp(problem.noise->at(score).upper);
            if (from_end < 1e-6 || exact < 1e-18) {
                continue;  // the word nearest to so small a U is not near enough
            }
            const double got = 0x1p-64 * octave_value(table.coefficients.data(), word_of(from_end, upper));
            worst = std::fmax(worst, std::abs(got / exact - 1.0));
            ++judged;
        }
        EXPECT_LT(worst, point.head_dim == 2 ? 1e-5 : 1e-8) << analysis::canonical_text(point);
        EXPECT_GE(judged, 10);
    }
}

// The mean weight is P(miss): two tables and a quadrature against the integral of analysis/, down to 1e-60.
TEST(MissWeights, have_the_exact_mean) {
    for (RoutingPoint point : kPoints) {
        for (const double scale : {0.3, 1.0}) {
            RoutingPoint scaled = point;
            scaled.mu_signal *= scale;
            const double exact = analysis::exact_hit_probability(scaled).miss();
            const double mean = ConditionalSampler(scaled, 1).moments().mean;
            EXPECT_LT(std::abs(mean / exact - 1.0), point.head_dim == 2 ? 1e-6 : 1e-8)
                << analysis::canonical_text(scaled) << ": " << exact;
        }
    }
    // Small heads, whose best rival stands near the end of what a score can be.
    for (const RoutingPoint& small :
         {point_of(Model::sphere, 2, 3, 64, 2, 1, 0.5), point_of(Model::sphere, 3, 2, 64, 2, 1, 0.5),
          point_of(Model::sphere, 4, 6, 1000000, 2, 5, 1.0, 1.0),
          point_of(Model::sphere, 4, 3, 1000000, 8, 1, 1.0, 1.0)}) {
        const double miss = analysis::exact_hit_probability(small).miss();
        EXPECT_LT(std::abs(ConditionalSampler(small, 1).moments().mean / miss - 1.0), small.head_dim == 2 ? 1e-5 : 1e-7)
            << analysis::canonical_text(small) << ": " << miss;
    }
    const RoutingPoint rare = point_of(Model::sphere, 4096, 16, 64, 8, 1, 1.0);
    const double exact = analysis::exact_hit_probability(rare).miss();
    EXPECT_LT(exact, 1e-20);
    EXPECT_LT(std::abs(ConditionalSampler(rare, 1).moments().mean / exact - 1.0), 1e-8) << exact;
}

TEST(FixedSignal, has_one_threshold) {
    const RoutingPoint point = point_of(Model::sphere, 64, 4, 64, 4, 4, 0.2, 0.1);
    const OctaveTable table = noise_above_signal_table(point);
    const double exact = std::exp(analysis::noise_at_fixed_signal(point).upper);
    for (const std::uint64_t word : {std::uint64_t{0}, ~std::uint64_t{0}, std::uint64_t{0x8000000000001234}}) {
        EXPECT_NEAR(0x1p-64 * octave_value(table.coefficients.data(), word) / exact, 1.0, 1e-12);
    }
}

// The documented error: the tail beyond every score the table can give is the uniform it was drawn with, to 5e-6 of
// itself down to a tail of 1e-4 and to 1e-4 at the far end.
TEST(BlockScores, have_the_exact_law) {
    for (const auto& [d, b] : {std::pair<std::int64_t, std::int64_t>{64, 16}, {64, 1}, {3, 4}, {128, 512}, {2, 8}}) {
        const BlockScoreTables tables = block_score_tables(point_of(Model::sphere, d, b, 10, 2, 1, 0.5));
        const auto law = analysis::affinity_sum(d, b);
        const double unit = std::sqrt(static_cast<double>(b) / static_cast<double>(d));
        const auto end = static_cast<double>(b);
        double worst_middle = 0.0;
        double worst_tail = 0.0;
        for (double x = 0x1p31; x >= 1.0; x /= 1.0271) {
            const auto word = static_cast<std::uint32_t>(std::min(x, 0x1p31 - 1.0));
            const auto score = static_cast<double>(table_score(tables.noise, word));
            EXPECT_NEAR(table_score(tables.noise, ~word), -score, 1e-6) << "symmetric";
            if (end - score * unit < 1e-6 * end) {
                continue;  // floats near the end of the support are too far apart to judge
            }
            const double tail = std::exp(law->at_gaps(end + score * unit, end - score * unit).upper);
            const double wanted = 0.5 * static_cast<double>(static_cast<float>(word) + 0.5F) * 0x1p-31;
            const double error = std::abs(tail / wanted - 1.0);
            (wanted > 1e-4 ? worst_middle : worst_tail) = std::fmax(wanted > 1e-4 ? worst_middle : worst_tail, error);
        }
        EXPECT_LT(worst_middle, 5e-6) << "d " << d << ", B " << b;
        EXPECT_LT(worst_tail, 1e-4) << "d " << d << ", B " << b;
    }
}

}  // namespace
}  // namespace mobalab::sim
