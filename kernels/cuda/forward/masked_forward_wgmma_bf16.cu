#include "kernels/cuda/forward/masked_forward_wgmma.cuh"

namespace mobalab::kernels::cuda {

template Status launch_masked_forward<__nv_bfloat16>(int, const MaskedForwardArgs&, const CUtensorMap&,
                                                     const CUtensorMap&, const CUtensorMap&, cudaStream_t);

}  // namespace mobalab::kernels::cuda
