#define MOBALAB_SIMD avx512
#include "sim/simd/all_kernels.h"

namespace mobalab::sim {

const Kernels& avx512_kernels() {
    static constexpr Kernels kKernels = avx512::kernels(InstructionSet::avx512);
    return kKernels;
}

}  // namespace mobalab::sim
