#include "kernels/cuda/pooling/centred.h"

#include <algorithm>

#include "kernels/cuda/host/status.h"
#include "kernels/cuda/tile/elements.cuh"
#include "kernels/cuda/tile/sequences.h"

// A pass of its own: block 0's mean is known only when its thread block is done, and means are small beside the keys
// they are made of.
namespace mobalab::kernels::cuda {
namespace {

constexpr int threads = 256;
constexpr std::int64_t most_thread_blocks = 4096;  // of a sequence; they take turns over its blocks

struct Params {
    Sequences sequences;
    const float* means;
    const std::int32_t* block_base;  // null without cu_seqlens
    std::int32_t blocks_max, total_blocks, block_size;
    std::int32_t row;  // elements of a block: all heads
};

template <typename T>
__global__ void __launch_bounds__(threads) centred_kernel(const Params p, T* centroids) {
    const int b = static_cast<int>(blockIdx.y);
    const std::int64_t base = p.block_base != nullptr ? p.block_base[b] : static_cast<std::int64_t>(b) * p.blocks_max;
    int blocks = (p.sequences.at(b).sk + p.block_size - 1) / p.block_size;
    // Not more than the output holds, whatever cu_seqlens says.
    if (p.block_base != nullptr) blocks = min(blocks, p.total_blocks - p.block_base[b]);
    const float* first = p.means + base * p.row;
    for (int block = static_cast<int>(blockIdx.x); block < blocks; block += static_cast<int>(gridDim.x)) {
        const std::int64_t at = static_cast<std::int64_t>(block) * p.row;
        for (int i = static_cast<int>(threadIdx.x); i < p.row; i += threads) {
            const float reference = first[i];
            const float rest = isfinite(reference) ? first[at + i] - reference : first[at + i];
            centroids[base * p.row + at + i] = from_float<T>(rest);
        }
    }
}

template <typename T>
void launch(const Params& p, void* centroids, cudaStream_t stream) {
    const dim3 grid(static_cast<unsigned>(std::clamp<std::int64_t>(p.blocks_max, 1, most_thread_blocks)),
                    static_cast<unsigned>(p.sequences.batch));
    centred_kernel<T><<<grid, threads, 0, stream>>>(p, static_cast<T*>(centroids));
}

}  // namespace

Status launch_centred(const Problem& problem, const float* means, const std::int32_t* block_base, void* centroids,
                      cudaStream_t stream) {
    Params p{};
    p.sequences = make_sequences(problem);
    p.means = means;
    p.block_base = block_base;
    p.blocks_max = static_cast<std::int32_t>(problem.longest_blocks());
    p.total_blocks = static_cast<std::int32_t>(problem.blocks());
    p.block_size = static_cast<std::int32_t>(problem.block_size);
    p.row = static_cast<std::int32_t>(problem.heads_k * problem.head_dim);
    if (problem.dtype == DataType::bf16) {
        launch<__nv_bfloat16>(p, centroids, stream);
    } else {
        launch<__half>(p, centroids, stream);
    }
    return launch_status("centred_kernel");
}

}  // namespace mobalab::kernels::cuda
