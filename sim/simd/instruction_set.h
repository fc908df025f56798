#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "sim/simd/key_tile_layout.h"
#include "sim/simd/tiles.h"
#include "sim/streams/philox.h"
#include "sim/streams/threshold_stream.h"
#include "sim/streams/vector_rows.h"
#include "sim/tables/score_table.h"

namespace mobalab::sim {

/// What the hot loops are compiled for. `baseline` is what every machine of the architecture has (SSE2 on x86-64, no
/// fused multiply-add in hardware: right, and slow).
enum class InstructionSet { baseline, avx2, avx512 };

/// "baseline", "avx2", "avx512".
std::string_view to_string(InstructionSet set);
/// Throws analysis::InputError naming the accepted names.
InstructionSet parse_instruction_set(std::string_view name);

/// The hot loops, compiled once an instruction set (sim/simd/). Every set gives the same bits; the headers named say
/// what the functions do.
struct HotLoops {
    InstructionSet set;
    void (*fill_gaussian)(float* out, std::size_t count, PhiloxKey key, std::uint64_t subsequence,
                          std::uint64_t first_draw);  ///< sim/streams/gaussian.h
    void (*fill_affinities)(std::int32_t* out, std::size_t count, PhiloxKey key, std::uint64_t subsequence,
                            std::uint64_t first, float exponent);  ///< sim/samplers/affinity.h
    void (*fill_scores)(float* out, std::size_t count, PhiloxKey key, std::uint64_t subsequence,
                        std::uint64_t first_draw, const ScoreTable& table);  ///< sim/simd/fill_scores.h
    std::int64_t (*sum_affinities)(const std::int32_t* affinities, std::size_t count);
    void (*sum_blocks)(std::int64_t* sums, const std::int32_t* affinities, std::size_t block_size, std::size_t blocks);
    AboveEqual (*compare_scores)(const float* scores, std::size_t count, float bound);
    void (*vector_affinities)(std::int32_t* out, std::size_t count, PhiloxKey key, std::uint64_t trial,
                              std::uint64_t first_row, const QuadOperands* quads,
                              std::int64_t head_dim);  ///< sim/simd/vector_affinities.h
    // sim/simd/threshold.h
    void (*signal_words)(std::uint64_t* words, const TrialRun& run);
    void (*thresholds_of)(std::uint64_t* words, std::size_t count, const double* coefficients);
    void (*count_digits)(std::uint32_t* below, std::uint8_t* ties, const std::uint64_t* thresholds, const TrialRun& run,
                         std::uint32_t first_draw, std::uint32_t last_draw);
    std::size_t (*tied_blocks)(std::uint32_t* blocks, std::size_t room, std::uint32_t* next, const TrialRun& run,
                               std::uint16_t digit);
    // sim/simd/key_tile.h
    void (*draw_keys)(float* coords, std::size_t rows, PhiloxKey key, std::uint64_t trial, std::uint64_t first_row,
                      std::int64_t head_dim);
    void (*project_keys)(float* dots, float* squares, const float* coords, std::size_t rows, const float* direction,
                         std::int64_t head_dim);
    void (*mix_keys)(float* coords, std::size_t rows, const KeyMix& mix, const float* common, const float* query,
                     std::int64_t head_dim);
    void (*convolved_affinities)(float* affinities, const float* coords, std::size_t rows, const float* query,
                                 std::int64_t head_dim, const TileConvolution& convolution);
    void (*summarise_keys)(float* summary, analysis::Summary kind, const float* coords, std::size_t begin,
                           std::size_t end, std::int64_t head_dim);
};

/// Sets this processor can run, slowest first.
const std::vector<InstructionSet>& available_instruction_sets();

/// Throws analysis::InputError when this processor does not have the set.
const HotLoops& loops_of(InstructionSet set);

/// The fastest available set, or the one the environment variable MOBALAB_SIMD names (read once). Throws
/// analysis::InputError for a name that is none or that this processor does not have.
const HotLoops& default_loops();

}  // namespace mobalab::sim
