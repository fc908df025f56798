#define MOBALAB_SIMD baseline
#include "sim/simd/all_kernels.h"

namespace mobalab::sim {

const Kernels& baseline_kernels() {
    static constexpr Kernels kKernels = baseline::kernels(InstructionSet::baseline);
    return kKernels;
}

}  // namespace mobalab::sim
