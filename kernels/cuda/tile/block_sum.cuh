#pragma once

namespace mobalab::kernels::cuda {

/// Sum over the lanes up to this one.
__device__ __forceinline__ int warp_inclusive_sum(int sum) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(0xffffffffu, sum, step);
        if (lane >= step) sum += other;
    }
    return sum;
}

/// Exclusive sum over the thread block; `total` is the sum over all of it. Every thread calls it.
__device__ __forceinline__ int block_exclusive_sum(int value, int& total) {
    __shared__ int warp_sums[32];
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int warps = static_cast<int>(blockDim.x) / 32;
    const int sum = warp_inclusive_sum(value);
    if (lane == 31) warp_sums[warp] = sum;
    __syncthreads();
    const int of_warps = warp_inclusive_sum(lane < warps ? warp_sums[lane] : 0);
    __syncthreads();
    total = __shfl_sync(0xffffffffu, of_warps, 31);
    const int before = __shfl_sync(0xffffffffu, of_warps, (warp + 31) % 32);
    return (warp > 0 ? before : 0) + sum - value;
}

}  // namespace mobalab::kernels::cuda
