// Every instruction set this processor has gives the same bits as the words and formulas the headers promise.
#include "sim/simd/instruction_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "analysis/routing_point.h"
#include "sim/engine/engine.h"
#include "sim/streams/gaussian.h"
#include "sim/streams/transforms.h"
#include "sim/tables/octave_table.h"
#include "tests/sim/points.h"
#include "tests/sim/statistics.h"

namespace mobalab::sim {
namespace {

using analysis::InputError;
using analysis::Model;
using analysis::RoutingPoint;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr PhiloxKey kKey{0xdeadbeef, 0xfffffffe};

class EverySet : public ::testing::TestWithParam<InstructionSet> {
protected:
    const HotLoops& loops = loops_of(GetParam());
};
INSTANTIATE_TEST_SUITE_P(sets, EverySet, ::testing::ValuesIn(available_instruction_sets()),
                         [](const auto& test) { return std::string(to_string(test.param)); });

TEST(InstructionSets, say_what_this_machine_tested) {
    std::string names;
    for (const InstructionSet set : available_instruction_sets()) {
        names += std::string(to_string(set)) + ' ';
        EXPECT_EQ(parse_instruction_set(to_string(set)), set);
    }
    std::cout << "[     sets ] " << names << '\n';
    EXPECT_EQ(available_instruction_sets().front(), InstructionSet::baseline);
    EXPECT_EQ(default_loops().set,
              std::getenv("MOBALAB_SIMD") == nullptr ? available_instruction_sets().back() : default_loops().set);
    EXPECT_THAT([] { parse_instruction_set("sse9"); }, ThrowsMessage<InputError>(HasSubstr("MOBALAB_SIMD = 'sse9'")));
}

TEST_P(EverySet, gaussian_is_the_documented_function_of_the_words) {
    constexpr std::uint64_t kFirst = (std::uint64_t{1} << 32U) - 100;  // crosses into the high counter word
    std::vector<float> z(1003);
    loops.fill_gaussian(z.data(), z.size(), kKey, 0xfedcba9876543210U, kFirst);
    for (std::size_t i = 0; i < z.size(); ++i) {
        const auto w = philox_block(kKey, 0xfedcba9876543210U, kFirst + i / 4);
        const std::size_t pair = i % 4 / 2;
        const Pair expected = normal_pair(w[2 * pair], w[2 * pair + 1]);
        ASSERT_EQ(z[i], i % 2 == 0 ? expected.first : expected.second) << i;
    }
}

TEST_P(EverySet, affinity_is_the_documented_function_of_the_words) {
    for (const std::int64_t head_dim : {2, 3, 64, 4096}) {
        const float exponent = affinity_exponent(head_dim);
        std::vector<std::int32_t> steps(kAffinityTile + 3 * kSmallAffinityTile);
        loops.fill_affinities(steps.data(), steps.size(), kKey, 7, 0, exponent);
        std::int64_t sum = 0;
        for (std::size_t i = 0; i < steps.size(); ++i) {
            const auto w = philox_block(kKey, 7, i / 2);
            ASSERT_EQ(steps[i], affinity(w[2 * (i % 2)], w[2 * (i % 2) + 1], exponent)) << i;
            sum += steps[i];
            ASSERT_EQ(loops.sum_affinities(steps.data(), i + 1), sum);
        }
    }
}

TEST_P(EverySet, scores_are_the_documented_function_of_the_words) {
    ScoreTable table;
    for (std::size_t power = 0; power < ScoreTable::kCoefficients; ++power) {
        for (std::size_t octave = 0; octave < ScoreTable::kOctaves; ++octave) {
            table.c[power][octave] = 1.0F / static_cast<float>(1 + power * 37 + octave * 11);
        }
    }
    std::vector<float> scores(4 * kScoreTile);
    loops.fill_scores(scores.data(), scores.size(), kKey, 3, kScoreTile / 4, table);
    for (std::size_t i = 0; i < scores.size(); ++i) {
        ASSERT_EQ(scores[i], table_score(table, philox_block(kKey, 3, kScoreTile / 4 + i / 4)[i % 4])) << i;
    }
}

TEST_P(EverySet, comparisons_count) {
    std::vector<float> scores(777);
    for (std::size_t i = 0; i < scores.size(); ++i) {
        scores[i] = static_cast<float>(i * 31 % 100);
    }
    const AboveEqual found = loops.compare_scores(scores.data(), scores.size(), 90.0F);
    std::uint32_t above = 0;
    std::uint32_t equal = 0;
    for (const float score : scores) {
        above += score > 90.0F ? 1 : 0;
        equal += score == 90.0F ? 1 : 0;
    }
    EXPECT_EQ(found.above, above);
    EXPECT_EQ(found.equal, equal);
}

/// One affinity by the definition in sim/streams/vector_rows.h, one number at a time.
std::int32_t plain_vector_affinity(std::uint64_t trial, std::uint64_t row, std::span<const QuadOperands> quads,
                                   std::int64_t head_dim) {
    float dot[2] = {};
    float norm2[2] = {};
    for (std::size_t j = 0; j < quads.size(); ++j) {
        const auto w = philox_block(kKey, trial, (j << 32U) + row);
        for (std::size_t pair = 0; pair < 2; ++pair) {
            const PolarPairOf<float> polar = polar_normal_pair(w[2 * pair], w[2 * pair + 1]);
            const float along = std::fma(polar.sin, quads[j].odd_coords[pair], polar.cos * quads[j].even_coords[pair]);
            dot[pair] = std::fma(polar.radius, along, dot[pair]);
            const std::int64_t used = head_dim - 4 * static_cast<std::int64_t>(j) - 2 * static_cast<std::int64_t>(pair);
            const float first = polar.radius * polar.cos;
            norm2[pair] += used >= 2 ? polar.squared_radius : used == 1 ? first * first : 0.0F;
        }
    }
    return static_cast<std::int32_t>((dot[0] + dot[1]) / std::sqrt(norm2[0] + norm2[1]) * kAffinityScale);
}

TEST_P(EverySet, vector_affinity_is_the_documented_function_of_the_words) {
    for (const std::int64_t head_dim : {2, 3, 4, 5, 6, 7, 63, 64, 66}) {
        for (const std::uint64_t trial : {std::uint64_t{0}, std::uint64_t{0xfedcba9876543210}}) {
            std::vector<QuadOperands> quads(static_cast<std::size_t>(quads_of(head_dim)));
            make_quad_operands(quads, kKey, trial, head_dim);
            double norm2 = 0.0;
            for (const QuadOperands& quad : quads) {
                for (const float x :
                     {quad.even_coords[0], quad.even_coords[1], quad.odd_coords[0], quad.odd_coords[1]}) {
                    norm2 += static_cast<double>(x) * static_cast<double>(x);
                }
            }
            EXPECT_NEAR(norm2, 1.0, 3e-6);
            std::vector<std::int32_t> steps(101, -1);
            constexpr std::uint64_t kRow = 0xffffff00U;
            loops.vector_affinities(steps.data(), steps.size() - 1, kKey, trial, kRow, quads.data(), head_dim);
            EXPECT_EQ(steps.back(), -1) << "nothing is written beyond the end";
            for (std::size_t i = 0; i + 1 < steps.size(); ++i) {
                ASSERT_EQ(steps[i], plain_vector_affinity(trial, kRow + i, quads, head_dim))
                    << "head_dim " << head_dim << ", row " << i;
            }
        }
    }
}

/// sim/simd/key_tile_layout.h, one number at a time.
class PlainTile {
public:
    PlainTile(std::uint64_t trial, std::uint64_t first_row, std::size_t rows, std::int64_t head_dim)
        : dims_(static_cast<std::size_t>(head_dim)), x_(rows * dims_) {
        for (std::size_t i = 0; i < x_.size(); ++i) {
            const std::size_t j = i % dims_;
            const auto w = philox_block(kKey, trial, ((j / 4) << 32U) + first_row + i / dims_);
            const Pair z = normal_pair(w[j % 4 / 2 * 2], w[j % 4 / 2 * 2 + 1]);
            x_[i] = j % 2 == 0 ? z.first : z.second;
        }
    }

    float at(std::size_t row, std::size_t j) const { return x_[row * dims_ + j]; }
    float project(std::size_t row, std::span<const float> direction) const {
        float dot = 0.0F;
        for (std::size_t j = 0; j < dims_; ++j) {
            dot += at(row, j) * direction[j];
        }
        return dot;
    }
    float square(std::size_t row) const { return project(row, std::span(x_).subspan(row * dims_, dims_)); }
    void mix(const KeyMix& mix, std::span<const float> common, std::span<const float> query) {
        for (std::size_t i = 0; i < x_.size(); ++i) {
            const std::size_t row = i / dims_;
            const std::size_t j = i % dims_;
            x_[i] = mix.own[row] * x_[i] + (mix.common[row] * common[j] + mix.query[row] * query[j]);
        }
    }
    float affinity(std::size_t row, std::span<const float> query, const TileConvolution& convolution) const {
        float dot = 0.0F;
        for (std::size_t j = 0; j < dims_; ++j) {
            float key = at(row, j);
            if (convolution.width > 0) {
                float z = key;
                for (std::size_t lag = 1; lag < static_cast<std::size_t>(convolution.width); ++lag) {
                    z += lag <= row ? at(row - lag, j) : 0.0F;
                }
                z = convolution.tap * z;
                key += convolution.silu ? silu(z) : z;
            }
            dot += key * query[j];
        }
        return dot;
    }

private:
    std::size_t dims_;
    std::vector<float> x_;
};

TEST_P(EverySet, key_tiles_are_the_documented_function_of_the_words) {
    constexpr std::uint64_t kTrial = 0xfedcba9876543210U;
    constexpr std::uint64_t kRow = 0xfffff000U;
    for (const std::int64_t head_dim : {2, 3, 5, 64}) {
        for (const std::size_t rows : {std::size_t{1}, std::size_t{17}, KeyTile::kRows}) {
            const auto dims = static_cast<std::size_t>(head_dim);
            std::vector<float> common(dims);
            std::vector<float> query(dims);
            fill_gaussian(common, kKey, 1, 0);
            fill_gaussian(query, kKey, 2, 0);
            KeyMix mix{};
            for (std::size_t row = 0; row < KeyTile::kRows; ++row) {
                mix.own[row] = 0.5F + 0.01F * static_cast<float>(row);
                mix.common[row] = 0.3F - 0.02F * static_cast<float>(row);
                mix.query[row] = row % 7 == 0 ? 0.25F : 0.0F;
            }
            PlainTile plain(kTrial, kRow, rows, head_dim);
            std::vector<float> coords(KeyTile::size(head_dim));
            loops.draw_keys(coords.data(), rows, kKey, kTrial, kRow, head_dim);
            std::array<float, KeyTile::kRows> dots{};
            std::array<float, KeyTile::kRows> squares{};
            loops.project_keys(dots.data(), squares.data(), coords.data(), rows, common.data(), head_dim);
            for (std::size_t row = 0; row < rows; ++row) {
                ASSERT_EQ(dots[row], plain.project(row, common)) << row;
                ASSERT_EQ(squares[row], plain.square(row)) << row;
            }
            loops.mix_keys(coords.data(), rows, mix, common.data(), query.data(), head_dim);
            plain.mix(mix, common, query);
            for (const TileConvolution& convolution :
                 {TileConvolution{0, 1.0F, false}, TileConvolution{1, 0.7F, false}, TileConvolution{3, -0.4F, false},
                  TileConvolution{5, 1.5F, true}, TileConvolution{8, 0.6F, true}}) {
                loops.convolved_affinities(dots.data(), coords.data(), rows, query.data(), head_dim, convolution);
                for (std::size_t row = 0; row < rows; ++row) {
                    ASSERT_EQ(dots[row], plain.affinity(row, query, convolution))
                        << "row " << row << ", width " << convolution.width;
                }
            }
        }
    }
}

TEST_P(EverySet, threshold_digits_are_the_documented_function_of_the_words) {
    constexpr std::uint32_t kTrials = 75;
    for (const std::uint32_t noise_blocks : {0U, 1U, 7U, 8U, 9U, 63U, 1023U, 4105U}) {
        for (const std::uint64_t first_trial : {std::uint64_t{5}, (std::uint64_t{7} << 32U) + 1000}) {
            const TrialRun run{kKey, first_trial, kTrials, noise_blocks};
            std::vector<std::uint64_t> words(kTrials);
            loops.signal_words(words.data(), run);
            std::vector<std::uint64_t> thresholds(kTrials);
            std::vector<std::uint32_t> expected(kTrials);
            std::vector<std::uint8_t> expected_ties(kTrials);
            for (std::uint32_t i = 0; i < kTrials; ++i) {
                const auto w = philox_block(kKey, first_trial + i, 0);
                ASSERT_EQ(words[i], (std::uint64_t{w[1]} << 32U) | w[0]);
                thresholds[i] = words[i] >> (i % 12U);
                for (std::uint32_t b = 0; b < noise_blocks; ++b) {
                    const std::uint32_t word = philox_block(kKey, first_trial + i, 1 + b / 8)[b % 8 / 2];
                    const std::uint64_t digit = (word >> (16U * (b % 2U))) & 0xffffU;
                    expected[i] += digit < thresholds[i] >> 48U ? 1 : 0;
                    expected_ties[i] = digit == thresholds[i] >> 48U ? 1 : expected_ties[i];
                }
            }
            std::vector<std::uint32_t> below(kTrials);
            std::vector<std::uint8_t> ties(kTrials);
            const std::uint32_t draws = (noise_blocks + 7) / 8;
            const std::uint32_t cut = draws / 3;
            loops.count_digits(below.data(), ties.data(), thresholds.data(), run, 1, 1 + cut);
            loops.count_digits(below.data(), ties.data(), thresholds.data(), run, 1 + cut, 1 + draws);
            EXPECT_EQ(below, expected) << noise_blocks << " blocks";
            for (std::uint32_t i = 0; i < kTrials; ++i) {
                ASSERT_GE(ties[i], expected_ties[i]) << "a tie was overlooked";
            }
        }
    }
}

TEST_P(EverySet, tied_blocks_are_all_found) {
    const TrialRun run{kKey, 11, 1, 20'000};
    std::size_t found_in_all = 0;
    for (std::uint32_t digit = 0; digit < 20; ++digit) {
        std::vector<std::uint32_t> expected;
        for (std::uint32_t b = 0; b < run.noise_blocks; ++b) {
            const std::uint32_t word = philox_block(kKey, 11, 1 + b / 8)[b % 8 / 2];
            if (((word >> (16U * (b % 2U))) & 0xffffU) == digit) {
                expected.push_back(b);
            }
        }
        std::vector<std::uint32_t> got;
        std::vector<std::uint32_t> room(600);
        for (std::uint32_t next = 0; next < run.noise_blocks;) {
            const std::size_t found =
                loops.tied_blocks(room.data(), room.size(), &next, run, static_cast<std::uint16_t>(digit));
            got.insert(got.end(), room.begin(), room.begin() + static_cast<std::ptrdiff_t>(found));
        }
        EXPECT_EQ(got, expected) << "digit " << digit;
        found_in_all += got.size();
    }
    EXPECT_GT(found_in_all, 0U) << "the test has no power";
}

TEST_P(EverySet, thresholds_follow_the_table) {
    OctaveTable table = OctaveTable::of(
        [](double from_end, bool upper) { return 0x1p64 * (upper ? 1.0 - 0.5 * from_end : 0.5 * from_end); });
    std::vector<std::uint64_t> words(1001);
    for (std::size_t i = 0; i < words.size(); ++i) {
        const auto w = philox_block(kKey, i, 0);
        words[i] = ((std::uint64_t{w[0]} << 32U) | w[1]) >> (i % 50);
    }
    std::vector<std::uint64_t> got = words;
    loops.thresholds_of(got.data(), got.size(), table.coefficients.data());
    for (std::size_t i = 0; i < words.size(); ++i) {
        ASSERT_EQ(got[i], octave_threshold(table.coefficients.data(), words[i])) << i;
    }
}

/// Whole runs: the ranks of every method on every set are those of the slowest. Equal bits need no large sample: under
/// sanitizers, where vectors of real keys take a thousand times longer, 187 trials have every loop and its end.
TEST_P(EverySet, ranks_are_those_of_the_baseline) {
    for (const auto& [model, method] :
         {std::pair(Model::gaussian, Method::block), std::pair(Model::gaussian, Method::threshold),
          std::pair(Model::sphere, Method::vector), std::pair(Model::sphere, Method::affinity),
          std::pair(Model::sphere, Method::block), std::pair(Model::sphere, Method::threshold)}) {
        const RoutingPoint point = testing::point_of(model, 33, 7, 41, 8, 2, 0.5);
        Budget budget;
        budget.method = method;
        budget.threads = 1;
        budget.stop.max_trials = 3000 / testing::kSlower;
        budget.instruction_set = InstructionSet::baseline;
        const TrialStats baseline = simulate(point, budget).progress.stats;
        budget.instruction_set = GetParam();
        EXPECT_EQ(simulate(point, budget).progress.stats, baseline) << to_string(method);
    }
}

}  // namespace
}  // namespace mobalab::sim
