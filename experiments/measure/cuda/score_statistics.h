#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "experiments/measure/cuda/window_rows.h"

namespace mobalab::experiments::cuda {

struct ScoreStatisticsArgs {
    WindowRows window;
    std::int32_t block_size = 0;
    const float* scores = nullptr;  ///< [rows, blocks]
    const float* mass = nullptr;    ///< [rows, blocks], without key 0
    std::int32_t blocks = 0;
    const float* first_key_mass = nullptr;     ///< [rows]: of key 0
    bool score_is_mass = false;                ///< the score of block 0 then takes first_key_mass too
    const std::int32_t* needle_key = nullptr;  ///< [rows], -1: none

    // [rows]: what ScoreOutcomes says, NaN where it does; mean, of the candidates' scores, with deviation.
    double* mean = nullptr;
    float* deviation = nullptr;
    float* needle_score = nullptr;
    float* mass_score = nullptr;
    float* mass_score_squared = nullptr;
};

/// Statistics of the candidates' scores of each row, in double precision. Equal scores have a spread of exactly 0.
cudaError_t launch_score_statistics(const ScoreStatisticsArgs& args, cudaStream_t stream);

struct DistanceSumArgs {
    ScoreStatisticsArgs of;  ///< after launch_score_statistics()
    std::int32_t distances = 0;
    double* partial = nullptr;  ///< [distance_pieces(rows), distances]
    double* sums = nullptr;     ///< [distances], grows: ScoreOutcomes::distance_sum
};

constexpr std::int32_t distance_piece_rows = 256;
constexpr std::int32_t distance_pieces(std::int32_t rows) {
    return (rows + distance_piece_rows - 1) / distance_piece_rows;
}

/// Adds the window's rows to the sums by distance, in a fixed order.
cudaError_t launch_distance_sums(const DistanceSumArgs& args, cudaStream_t stream);

}  // namespace mobalab::experiments::cuda
