#include "kernels/cuda/host/multiprocessors.h"

#include <cuda_runtime_api.h>

#include "kernels/cuda/host/status.h"

namespace mobalab::kernels::cuda {

Status count_multiprocessors(int& count) {
    int device = 0;
    if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) {
        return device_status(error, "cudaGetDevice");
    }
    return device_status(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device),
                         "cudaDeviceGetAttribute");
}

}  // namespace mobalab::kernels::cuda
