#include "kernels/cuda/forward/block_forward_wgmma.cuh"

namespace mobalab::kernels::cuda {

template Status launch_block_forward_wgmma<__half>(int, int, const BlockForwardArgs&, const CUtensorMap&,
                                                   const CUtensorMap&, cudaStream_t);

}  // namespace mobalab::kernels::cuda
