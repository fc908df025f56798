#include "kernels/cuda/host/fill.h"

#include "kernels/cuda/host/status.h"
#include "kernels/cuda/tile/elements.cuh"

namespace mobalab::kernels::cuda {
namespace {

constexpr int threads_per_block = 256;

unsigned blocks_for(std::int64_t threads) {
    return static_cast<unsigned>((threads + threads_per_block - 1) / threads_per_block);
}

struct ClearArgs {
    RowTensor rows;
    std::int64_t tokens = 0, heads = 0, pieces = 0, count = 0;  ///< count: 16-byte pieces of all rows
};
__global__ void __launch_bounds__(threads_per_block) clear_kernel(const ClearArgs args) {
    const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads_per_block + threadIdx.x;
    if (i >= args.count) return;
    const std::int64_t row = i / args.pieces, head = row % args.heads, token = row / args.heads;
    const Place place = {static_cast<std::int32_t>(token / args.tokens),
                         static_cast<std::int32_t>(token % args.tokens)};
    reinterpret_cast<uint4*>(args.rows.row(head, place))[i % args.pieces] = uint4{0, 0, 0, 0};
}

__global__ void __launch_bounds__(threads_per_block) fill_kernel(float* values, std::int64_t count, float value) {
    const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads_per_block + threadIdx.x;
    if (i < count) values[i] = value;
}

}  // namespace

Status launch_clear(const RowTensor& rows, const MapExtents& extents, cudaStream_t stream) {
    ClearArgs args;
    args.rows = rows;
    args.tokens = extents.tokens;
    args.heads = extents.heads;
    args.pieces = extents.head_dim / chunk_elements;
    args.count = extents.batch * args.tokens * args.heads * args.pieces;
    if (args.count == 0) return {};
    clear_kernel<<<blocks_for(args.count), threads_per_block, 0, stream>>>(args);
    return launch_status("clear_kernel");
}

Status launch_fill(float* values, std::int64_t count, float value, cudaStream_t stream) {
    if (count == 0) return {};
    fill_kernel<<<blocks_for(count), threads_per_block, 0, stream>>>(values, count, value);
    return launch_status("fill_kernel");
}

}  // namespace mobalab::kernels::cuda
