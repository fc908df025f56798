#include "kernels/cuda/forward/span_forward_wgmma.cuh"

namespace mobalab::kernels::cuda {

template Status launch_block_forward_spans<__half>(int, int, const BlockForwardArgs&, const CUtensorMap&,
                                                   const CUtensorMap&, cudaStream_t);

}  // namespace mobalab::kernels::cuda
