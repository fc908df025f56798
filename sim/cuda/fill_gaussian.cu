#include "sim/cuda/fill_gaussian.h"

#include "sim/cuda/normal_quad.cuh"

namespace mobalab::sim::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMaxBlocks = 4096;

__global__ void __launch_bounds__(kThreads) fill_kernel(float* out, std::int64_t count, std::uint64_t seed,
                                                        std::uint64_t subsequence, std::uint64_t first_draw) {
    const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * kThreads;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; 4 * i < count; i += threads) {
        const NormalQuad quad(seed, subsequence, first_draw + static_cast<std::uint64_t>(i));
        for (int j = 0; j < 4 && 4 * i + j < count; ++j) {
            out[4 * i + j] = quad.z[j];
        }
    }
}

}  // namespace

cudaError_t fill_gaussian(float* out, std::int64_t count, PhiloxKey key, std::uint64_t subsequence,
                          std::uint64_t first_draw, cudaStream_t stream) {
    if (count <= 0) {
        return cudaSuccess;
    }
    const std::int64_t needed = (count + 4 * kThreads - 1) / (4 * kThreads);
    const auto blocks = static_cast<unsigned>(needed < kMaxBlocks ? needed : kMaxBlocks);
    fill_kernel<<<blocks, kThreads, 0, stream>>>(out, count, key.as_curand_seed(), subsequence, first_draw);
    return cudaGetLastError();
}

}  // namespace mobalab::sim::cuda
