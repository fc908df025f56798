// The conformance bodies on the CUDA backend; skipped with a message where there is no device.
#include "tests/kernels/cuda/cuda_target.h"

namespace mobalab::kernels::conformance {

INSTANTIATE_TEST_SUITE_P(Cuda, MobaConformance, testing::ValuesIn(cuda_targets()), target_name);

}  // namespace mobalab::kernels::conformance
