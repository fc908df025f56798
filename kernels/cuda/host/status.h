#pragma once

#include <cuda_runtime_api.h>

#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// ok, or device_error with `what` and the runtime's words.
Status device_status(cudaError_t error, const char* what);

/// The status of the launch just made (configuration errors; nothing waits for the kernel).
inline Status launch_status(const char* kernel) {
    return device_status(cudaGetLastError(), kernel);
}

}  // namespace mobalab::kernels::cuda
