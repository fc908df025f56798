#pragma once

#include "sim/simd/instruction_set.h"

namespace mobalab::sim {

// One file an instruction set, each compiled with that set's flags; sim/simd/instruction_set.cc chooses.
const HotLoops& baseline_loops();
const HotLoops& avx2_loops();
const HotLoops& avx512_loops();

}  // namespace mobalab::sim
