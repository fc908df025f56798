#include "experiments/base/check.h"
#include "experiments/bench/bench.h"

namespace mobalab::experiments {

std::vector<BenchCase> cuda_kernel_cases(const BenchShape&, std::vector<std::string>&) {
    throw KernelError(kernels::backend_available(kernels::Backend::cuda).message);
}

}  // namespace mobalab::experiments
