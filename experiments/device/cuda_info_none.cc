#include "experiments/device/cuda_info.h"

namespace mobalab::experiments {

CudaInfo cuda_info() {
    return {false, "this program was built without CUDA", {}};
}

}  // namespace mobalab::experiments
