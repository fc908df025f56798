#include "kernels/cuda/backward/block_backward_wgmma.cuh"

namespace mobalab::kernels::cuda {

template Status launch_block_backward<__nv_bfloat16>(int, const BlockBackwardArgs&, const CUtensorMap&,
                                                     const CUtensorMap&, cudaStream_t);

}  // namespace mobalab::kernels::cuda
