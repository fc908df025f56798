#pragma once

namespace mobalab::kernels::cuda {

/// Exclusive sum over the thread block; `total` is the sum over all of it. Every thread calls it.
__device__ __forceinline__ int block_exclusive_sum(int value, int& total) {
    __shared__ int warp_sums[32];
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int warps = static_cast<int>(blockDim.x) / 32;
    int sum = value;
    for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(0xffffffffu, sum, step);
        if (lane >= step) sum += other;
    }
    if (lane == 31) warp_sums[warp] = sum;
    __syncthreads();
    int before = 0;
    total = 0;
    for (int w = 0; w < warps; ++w) {
        if (w < warp) before += warp_sums[w];
        total += warp_sums[w];
    }
    __syncthreads();
    return before + sum - value;
}

}  // namespace mobalab::kernels::cuda
