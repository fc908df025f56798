#pragma once

#include "sim/instruction_set.h"

namespace mobalab::sim {

// One file an instruction set, each compiled with that set's flags; sim/instruction_set.cc chooses.
const Kernels& baseline_kernels();
const Kernels& avx2_kernels();
const Kernels& avx512_kernels();

}  // namespace mobalab::sim
