#include "experiments/probe/kernel_under_test.h"

namespace mobalab::experiments {

std::unique_ptr<KernelUnderTest> cuda_kernel(int) {
    throw KernelError(kernels::backend_available(kernels::Backend::cuda).message);
}

}  // namespace mobalab::experiments
