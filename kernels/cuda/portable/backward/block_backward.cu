#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/portable/backward/block_backward.cuh"

namespace mobalab::kernels::cuda::portable {

Status launch_block_backward(DataType dtype, int multiprocessors, const BlockBackwardArgs& args, cudaStream_t stream) {
    return dtype == DataType::bf16 ? launch_width<__nv_bfloat16>(multiprocessors, args, stream)
                                   : launch_width<__half>(multiprocessors, args, stream);
}

}  // namespace mobalab::kernels::cuda::portable
