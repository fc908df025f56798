#include "kernels/cuda/combine.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/combine.cuh"
#include "kernels/cuda/status.h"

namespace mobalab::kernels::cuda {
namespace {

constexpr int threads_per_block = 256;
constexpr std::int64_t steps_per_warp = 4;

template <typename T, int HeadDim>
__global__ void __launch_bounds__(threads_per_block) combine_kernel(const __grid_constant__ BlockForwardArgs args) {
    const int thread = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    const int warps = static_cast<int>(gridDim.x * blockDim.x) / 32;
    combine_share<T, HeadDim>(args, 0, thread / 32, warps, thread % 32);
}

template <typename T, int HeadDim>
Status launch(const BlockForwardArgs& args, cudaStream_t stream) {
    const std::int64_t queries = static_cast<std::int64_t>(args.lists.chunk.head_count) * args.lists.chunk.token_count;
    if (queries == 0) return {};
    const std::int64_t queries_per_block = threads_per_block / lanes_per_query<HeadDim> * steps_per_warp;
    const auto blocks = static_cast<unsigned>((queries + queries_per_block - 1) / queries_per_block);
    combine_kernel<T, HeadDim><<<blocks, threads_per_block, 0, stream>>>(args);
    return launch_status("combine");
}

template <typename T>
Status launch_dtype(int head_dim, const BlockForwardArgs& args, cudaStream_t stream) {
    switch (head_dim) {
        case 32:
            return launch<T, 32>(args, stream);
        case 64:
            return launch<T, 64>(args, stream);
        case 96:
            return launch<T, 96>(args, stream);
        case 128:
            return launch<T, 128>(args, stream);
        default:
            return launch<T, 256>(args, stream);
    }
}

}  // namespace

Status launch_combine(DataType dtype, int head_dim, const BlockForwardArgs& args, cudaStream_t stream) {
    return dtype == DataType::bf16 ? launch_dtype<__nv_bfloat16>(head_dim, args, stream)
                                   : launch_dtype<__half>(head_dim, args, stream);
}

}  // namespace mobalab::kernels::cuda
