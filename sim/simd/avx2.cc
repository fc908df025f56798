#define MOBALAB_SIMD avx2
#include "sim/simd/all_loops.h"

namespace mobalab::sim {

const HotLoops& avx2_loops() {
    static constexpr HotLoops kLoops = avx2::loops(InstructionSet::avx2);
    return kLoops;
}

}  // namespace mobalab::sim
