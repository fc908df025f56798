#define MOBALAB_SIMD avx512
#include "sim/simd/all_loops.h"

namespace mobalab::sim {

const HotLoops& avx512_loops() {
    static constexpr HotLoops kLoops = avx512::loops(InstructionSet::avx512);
    return kLoops;
}

}  // namespace mobalab::sim
