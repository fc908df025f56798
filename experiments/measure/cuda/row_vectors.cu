#include "experiments/measure/cuda/row_vectors.h"

#include "experiments/measure/cuda/by_head_dim.h"
#include "experiments/measure/cuda/ranked.cuh"
#include "kernels/cuda/tile/elements.cuh"

namespace mobalab::experiments::cuda {
namespace {

constexpr int scaling_threads = 256;

template <typename T>
__global__ void __launch_bounds__(scaling_threads) scaled_rows_kernel(const __grid_constant__ ScaledRowsArgs args) {
    const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * scaling_threads + threadIdx.x;
    if (i >= args.elements) return;
    const float x = kernels::cuda::to_float(static_cast<const T*>(args.from)[i]);
    static_cast<T*>(args.to)[i] = kernels::cuda::from_float<T>(x * args.factor);
}

template <typename T>
__global__ void __launch_bounds__(row_threads) row_error_kernel(const __grid_constant__ RowErrorArgs args) {
    const int row = row_of_warp(), lane = lane_of_thread();
    if (row >= args.rows) return;
    const std::int64_t begin = static_cast<std::int64_t>(row) * args.width;
    const T* const out = args.out == nullptr ? nullptr : static_cast<const T*>(args.out) + begin;
    float sum = 0.0F;
    for (int i = lane; i < args.width; i += 32) {
        const float apart = (out == nullptr ? 0.0F : kernels::cuda::to_float(out[i])) - args.dense[begin + i];
        sum = fmaf(apart, apart, sum);
    }
    sum = warp_sum(sum);
    if (lane == 0) args.error[row] += sum;
}

}  // namespace

cudaError_t launch_scaled_rows(kernels::DataType dtype, const ScaledRowsArgs& args, cudaStream_t stream) {
    if (args.elements == 0) return cudaSuccess;
    const auto kernel =
        dtype == kernels::DataType::bf16 ? scaled_rows_kernel<__nv_bfloat16> : scaled_rows_kernel<__half>;
    return launch(kernel, dim3(pieces(args.elements, scaling_threads)), scaling_threads, 0, stream, args);
}

cudaError_t launch_row_error(kernels::DataType dtype, const RowErrorArgs& args, cudaStream_t stream) {
    if (args.rows == 0) return cudaSuccess;
    const auto kernel = dtype == kernels::DataType::bf16 ? row_error_kernel<__nv_bfloat16> : row_error_kernel<__half>;
    return launch(kernel, dim3(pieces(args.rows, rows_a_block)), row_threads, 0, stream, args);
}

}  // namespace mobalab::experiments::cuda
