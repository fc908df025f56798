#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "experiments/measure/cuda/window_rows.h"

namespace mobalab::experiments::cuda {

/// Blocks of one size that were chosen for the rows of a window: the first `slots` of each row of [rows, stride].
struct Chosen {
    const std::int32_t* blocks = nullptr;
    std::int32_t stride = 0;
    std::int32_t slots = 0;
};

struct RouteOutcomesArgs {
    WindowRows window;
    std::int32_t block_size = 0;
    Chosen chosen;
    bool keep_first = false;
    const float* mass = nullptr;  ///< [rows, blocks], without key 0
    std::int32_t blocks = 0;
    const float* first_key_mass = nullptr;  ///< [rows]: of key 0
    const float* scores = nullptr;          ///< [rows, blocks]; null: no margins
    bool score_is_mass = false;             ///< the score of block 0 then takes first_key_mass too
    const float* deviation = nullptr;       ///< [rows]

    // [rows]: RowOutcomes
    float* routed_mass = nullptr;
    float* routed_mass_no0 = nullptr;
    float* margin = nullptr;
};

/// What was routed of each row, and by how much the last block won.
cudaError_t launch_route_outcomes(const RouteOutcomesArgs& args, cudaStream_t stream);

struct SetDifferenceArgs {
    std::int32_t rows = 0;
    Chosen a, b;                    ///< of as many slots, at most 64
    std::int8_t* differ = nullptr;  ///< [rows]: 1 where the sets are not the same
};

cudaError_t launch_set_difference(const SetDifferenceArgs& args, cudaStream_t stream);

}  // namespace mobalab::experiments::cuda
