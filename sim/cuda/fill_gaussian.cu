#include "sim/cuda/fill_gaussian.h"

#include <curand_kernel.h>

#include "sim/transforms.h"

namespace mobalab::sim::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMaxBlocks = 4096;

__global__ void __launch_bounds__(kThreads) fill_kernel(float* out, std::int64_t count, std::uint64_t seed,
                                                        std::uint64_t subsequence, std::uint64_t first_draw) {
    const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * kThreads;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; 4 * i < count; i += threads) {
        curandStatePhilox4_32_10_t state;
        curand_init(seed, subsequence, 4 * (first_draw + static_cast<std::uint64_t>(i)), &state);
        const uint4 words = curand4(&state);
        const Pair low = normal_pair(words.x, words.y);
        const Pair high = normal_pair(words.z, words.w);
        const float z[4] = {low.first, low.second, high.first, high.second};
        for (int j = 0; j < 4 && 4 * i + j < count; ++j) {
            out[4 * i + j] = z[j];
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
