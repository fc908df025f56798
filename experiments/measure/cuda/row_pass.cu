#include "experiments/measure/cuda/row_pass.h"

#include <cmath>

#include "experiments/measure/cuda/by_head_dim.h"
#include "experiments/measure/cuda/ranked.cuh"
#include "kernels/cuda/ptx/matrix.cuh"

namespace mobalab::experiments::cuda {
namespace {

using kernels::cuda::ptx::exp2_approx;

__device__ __forceinline__ float row_lse(const float* log_mass, int units, float first, int lane) {
    float highest = first;
    for (int unit = lane; unit < units; unit += 32) highest = fmaxf(highest, log_mass[unit]);
    highest = warp_max(highest);
    float sum = lane == 0 ? exp2_approx(first - highest) : 0.0F;
    for (int unit = lane; unit < units; unit += 32) sum += exp2_approx(log_mass[unit] - highest);
    return highest + __log2f(warp_sum(sum));
}

__global__ void __launch_bounds__(row_threads) row_pass_kernel(const __grid_constant__ RowPassArgs args) {
    const int row = row_of_warp(), lane = lane_of_thread();
    if (row >= args.window.rows) return;
    const int position = args.window.position + row;
    const std::int64_t begin = static_cast<std::int64_t>(row) * args.units.pitch;
    const float lse = row_lse(args.units.log_mass + begin, position / unit_keys + 1,
                              args.units.first_score[row] * args.scale_log2, lane);

    Ranked best = 0;
    const int cut = position - distant_keys;
    if (cut > 1) {
        for (int unit = lane; unit < cut / unit_keys; unit += 32) {
            const auto key = static_cast<std::uint32_t>(unit * unit_keys + args.units.best_key[begin + unit]);
            best = max(best, ranked_key(args.units.best[begin + unit], key));
        }
        const float score = args.units.cut_score[row];
        if (lane == 0 && score != -INFINITY) {
            best = max(best, ranked_key(score, static_cast<std::uint32_t>(args.units.cut_key[row])));
        }
    }
    best = warp_max(best);
    if (lane == 0) {
        args.lse_log2[row] = lse;
        if (!(fabsf(lse) < INFINITY)) *args.overflowed = 1;
        args.distant_key[row] = key_of(best);
    }
}

}  // namespace

cudaError_t launch_row_pass(const RowPassArgs& args, cudaStream_t stream) {
    if (args.window.rows == 0) return cudaSuccess;
    return launch(row_pass_kernel, dim3(pieces(args.window.rows, rows_a_block)), row_threads, 0, stream, args);
}

}  // namespace mobalab::experiments::cuda
