#define MOBALAB_SIMD baseline
#include "sim/simd/all_loops.h"

namespace mobalab::sim {

const HotLoops& baseline_loops() {
    static constexpr HotLoops kLoops = baseline::loops(InstructionSet::baseline);
    return kLoops;
}

}  // namespace mobalab::sim
