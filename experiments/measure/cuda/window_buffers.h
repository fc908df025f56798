#pragma once

#include <cstdint>
#include <span>

#include "experiments/measure/cuda/device_head.h"
#include "experiments/measure/cuda/unit_pass.h"
#include "experiments/measure/head_outcomes.h"

namespace mobalab::experiments::cuda {

/// Device memory for what is known of one window of rows at a time; [rows, ...] with room for the smallest blocks.
struct WindowBuffers {
    WindowBuffers(const DeviceHead& head, std::span<const RouteSetting> settings, cudaStream_t stream);

    std::int32_t rows;  ///< of a window, at most
    UnitArrays units;   ///< pointers to the arrays below; no sums where no setting looks at them
    StreamArray<float> log_mass, best, sum, spread, first_score, cut_score;
    StreamArray<std::uint8_t> best_key;
    StreamArray<std::int32_t> cut_key, overflowed;

    StreamArray<float> first_key_mass;                          // [rows]
    StreamArray<double> mean;                                   // [rows]
    StreamArray<float> mass, block_log_mass, cumulant, scores;  // [rows, blocks]
    StreamArray<std::int32_t> unrounded_selection;              // [rows, slots]
    StreamArray<double> distance_partial;                       // [distance_pieces(rows), blocks + 1]
};

}  // namespace mobalab::experiments::cuda
