#include "experiments/measure/cuda/split_means.h"

#include "experiments/measure/cuda/by_head_dim.h"
#include "kernels/cuda/tile/elements.cuh"

namespace mobalab::experiments::cuda {
namespace {

/// A thread block a sub-block, a thread a channel.
template <typename T>
__global__ void split_means_kernel(const __grid_constant__ SplitMeansArgs args) {
    const int channel = static_cast<int>(threadIdx.x), sub_block = static_cast<int>(blockIdx.x);
    const std::int64_t first = static_cast<std::int64_t>(sub_block) * args.sub_block_keys;
    const std::int64_t end = min(first + args.sub_block_keys, static_cast<std::int64_t>(args.keys));
    const T* const k = static_cast<const T*>(args.k);
    float sum = 0.0F;
    for (std::int64_t key = first; key < end; ++key) sum += kernels::cuda::to_float(k[key * args.head_dim + channel]);
    const float mean = end > first ? sum / static_cast<float>(end - first) : 0.0F;
    const T high = kernels::cuda::from_float<T>(mean);
    T* const out = static_cast<T*>(args.means) + static_cast<std::int64_t>(sub_block) * 2 * args.head_dim + channel;
    out[0] = high;
    out[args.head_dim] = kernels::cuda::from_float<T>(mean - kernels::cuda::to_float(high));
}

}  // namespace

cudaError_t launch_split_means(kernels::DataType dtype, const SplitMeansArgs& args, cudaStream_t stream) {
    return by_head_dim(dtype, args.head_dim, [&](auto element, auto width) {
        return launch(split_means_kernel<decltype(element)>, dim3(static_cast<unsigned>(args.sub_blocks)), width.value,
                      0, stream, args);
    });
}

}  // namespace mobalab::experiments::cuda
