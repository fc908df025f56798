#include "kernels/cuda/combine.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/combine.cuh"
#include "kernels/cuda/status.h"

namespace mobalab::kernels::cuda {
namespace {

constexpr int threads_per_block = 128;  // a tile

template <typename T, int HeadDim>
__global__ void __launch_bounds__(threads_per_block) combine_kernel(const __grid_constant__ BlockForwardArgs args) {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    combine_rows<T, HeadDim>(args, 0, static_cast<int>(blockIdx.x), warp, lane);
}

template <typename T, int HeadDim>
Status launch(const BlockForwardArgs& args, cudaStream_t stream) {
    const std::int64_t tiles = static_cast<std::int64_t>(args.partials.heads) * args.schedule.tiles_per_head;
    if (tiles == 0) return {};
    combine_kernel<T, HeadDim><<<static_cast<unsigned>(tiles), threads_per_block, 0, stream>>>(args);
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
