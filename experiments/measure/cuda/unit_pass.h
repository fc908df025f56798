#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "experiments/measure/cuda/window_rows.h"
#include "kernels/kernels.h"

namespace mobalab::experiments::cuda {

/// What one pass over z = q . k keeps of every unit of 16 keys: [rows, pitch] of a window. Of a row at position t that
/// is unit t / 16 and those before it; what stands behind them is unspecified.
struct UnitArrays {
    float* log_mass = nullptr;         ///< log2 of the sum of exp(scale z) over keys <= t, key 0 left out; -inf: none
    float* best = nullptr;             ///< largest z of these keys; -inf: there are none
    std::uint8_t* best_key = nullptr;  ///< its key in the unit, the lowest of equals
    float* sum = nullptr;  ///< of z over all 16 keys; units before t / 16 only; null together with spread: not wanted
    float* spread = nullptr;  ///< of (z - sum / 16)^2
    std::int32_t pitch = 0;   ///< a multiple of 4

    // [rows]
    float* first_score = nullptr;     ///< z of key 0
    float* cut_score = nullptr;       ///< largest z of keys 1 ... t - 1025 in unit (t - 1024) / 16, -inf: none;
    std::int32_t* cut_key = nullptr;  ///< and its key. Both unspecified for t < 1024
};

struct UnitPassArgs {
    WindowRows window;
    const std::byte* q = nullptr;  ///< [window.rows, head_dim]
    const std::byte* k = nullptr;  ///< [keys, head_dim]
    std::int32_t keys = 0;         ///< more than the position of the window's last row
    float scale_log2 = 0.0F;       ///< scale log2(e)
    UnitArrays units;
    std::int32_t* overflowed = nullptr;  ///< becomes 1 where a z, or a sum of 16, is no finite number
};

/// Products of 16-bit elements are exact and summed in fp32; exponentials and logarithms are within 2^-22. Nothing
/// overflows as long as z and scale z do not.
cudaError_t launch_unit_pass(kernels::DataType dtype, int head_dim, const UnitPassArgs& args, cudaStream_t stream);

/// Units of the last row, in whole tiles: what UnitArrays::pitch is at least.
constexpr std::int32_t unit_pitch(std::int32_t keys) {
    constexpr std::int32_t tile = 64;
    return (keys + tile - 1) / tile * (tile / unit_keys);
}

}  // namespace mobalab::experiments::cuda
