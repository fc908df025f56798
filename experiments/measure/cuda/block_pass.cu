#include "experiments/measure/cuda/block_pass.h"

#include <cmath>

#include "experiments/measure/cuda/by_head_dim.h"
#include "experiments/measure/cuda/ranked.cuh"
#include "kernels/cuda/ptx/matrix.cuh"

namespace mobalab::experiments::cuda {
namespace {

using kernels::cuda::full_warp;
using kernels::cuda::ptx::exp2_approx;

constexpr int most_units = 32;  // of a block: a warp's lanes

// Sums over the `units` lanes that hold the units of a block (a power of two); all of them get it.
__device__ __forceinline__ float block_sum(float x, int units) {
    for (int step = 1; step < units; step *= 2) x += __shfl_xor_sync(full_warp, x, step);
    return x;
}

__device__ __forceinline__ float block_log_sum(float x, int units) {
    float highest = x;
    for (int step = 1; step < units; step *= 2) highest = fmaxf(highest, __shfl_xor_sync(full_warp, highest, step));
    const float base = highest == -INFINITY ? 0.0F : highest;
    return base + __log2f(block_sum(exp2_approx(x - base), units));
}

/// Two halves of `keys` keys each have sums s and s': their common spread is the sum of both and (s - s')^2 / 2 keys.
__device__ __forceinline__ float block_cumulant(float sum, float spread, int units, float scale) {
    float keys = unit_keys;
    for (int step = 1; step < units; step *= 2) {
        const float other = __shfl_xor_sync(full_warp, sum, step);
        const float apart = sum - other;
        spread += __shfl_xor_sync(full_warp, spread, step);
        spread += apart * apart / (2.0F * keys);
        sum += other;
        keys *= 2.0F;
    }
    return scale * (sum / keys) + 0.5F * scale * scale * (spread / keys);
}

__global__ void __launch_bounds__(row_threads) block_pass_kernel(const __grid_constant__ BlockPassArgs args) {
    const int row = row_of_warp(), lane = lane_of_thread();
    if (row >= args.window.rows) return;
    const int own = (args.window.position + row) / args.block_size, units_a_block = args.block_size / unit_keys;
    const int units = own * units_a_block, needle_units = (own - 2) * units_a_block;
    const std::int64_t begin = static_cast<std::int64_t>(row) * args.units.pitch;
    const std::int64_t out = static_cast<std::int64_t>(row) * args.blocks;
    const float lse = args.lse_log2[row], first = args.units.first_score[row] * args.scale_log2 - lse;
    float past = 0.0F, first_block = 0.0F;
    Ranked needle = 0;
    for (int base = 0; base < units; base += 32) {  // every lane goes round as often: they exchange sums
        const int unit = base + lane, block = unit / units_a_block;
        const bool here = unit < units;
        const bool writes = here && unit % units_a_block == 0;
        const float log_mass = here ? args.units.log_mass[begin + unit] - lse : -INFINITY;
        const float mass = exp2_approx(log_mass);
        const float of_block = block_sum(mass, units_a_block);
        past += mass;
        if (writes) args.mass[out + block] = of_block;
        if (unit == 0) first_block = of_block;
        if (args.log_mass != nullptr) {
            float with_first = log_mass;
            if (unit == 0) {
                const float high = fmaxf(log_mass, first), low = fminf(log_mass, first);
                with_first = high + __log2f(1.0F + exp2_approx(low - high));
            }
            const float sum = block_log_sum(with_first, units_a_block);
            if (writes) args.log_mass[out + block] = sum;
        }
        if (args.cumulant != nullptr) {
            const float cumulant =
                block_cumulant(here ? args.units.sum[begin + unit] : 0.0F,
                               here ? args.units.spread[begin + unit] : 0.0F, units_a_block, args.scale);
            if (writes) args.cumulant[out + block] = cumulant;
        }
        if (unit < needle_units) {
            const auto key = static_cast<std::uint32_t>(unit * unit_keys + args.units.best_key[begin + unit]);
            needle = max(needle, ranked_key(args.units.best[begin + unit], key));
        }
    }
    past = warp_sum(past);
    needle = warp_max(needle);
    if (lane == 0) {
        const float first_key = own > 0 ? exp2_approx(first) : 0.0F;
        args.first_key_mass[row] = first_key;
        args.past_mass[row] = past + first_key;
        args.past_mass_no0[row] = past;
        args.first_mass[row] = first_block + first_key;
        args.first_mass_no0[row] = first_block;
        args.needle_key[row] = key_of(needle);
    }
}

}  // namespace

cudaError_t launch_block_pass(const BlockPassArgs& args, cudaStream_t stream) {
    if (args.window.rows == 0) return cudaSuccess;
    const int units = args.block_size / unit_keys;
    if (units < 1 || units > most_units || (units & (units - 1)) != 0 || args.block_size % unit_keys != 0) {
        return cudaErrorInvalidValue;
    }
    return launch(block_pass_kernel, dim3(pieces(args.window.rows, rows_a_block)), row_threads, 0, stream, args);
}

}  // namespace mobalab::experiments::cuda
