#include "experiments/base/check.h"
#include "experiments/measure/head_meter.h"

namespace mobalab::experiments {

std::unique_ptr<HeadMeter> cuda_head_meter() {
    throw KernelError(kernels::backend_available(kernels::Backend::cuda).message);
}

}  // namespace mobalab::experiments
