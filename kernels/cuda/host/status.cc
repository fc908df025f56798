#include "kernels/cuda/host/status.h"

#include <fmt/format.h>

namespace mobalab::kernels::cuda {

Status device_status(cudaError_t error, const char* what) {
    if (error == cudaSuccess) return {};
    return {StatusCode::device_error,
            fmt::format("{}: CUDA error {} ({})", what, cudaGetErrorName(error), cudaGetErrorString(error))};
}

}  // namespace mobalab::kernels::cuda
