#define MOBALAB_SIMD avx2
#include "sim/simd/all_kernels.h"

namespace mobalab::sim {

const Kernels& avx2_kernels() {
    static constexpr Kernels kKernels = avx2::kernels(InstructionSet::avx2);
    return kKernels;
}

}  // namespace mobalab::sim
