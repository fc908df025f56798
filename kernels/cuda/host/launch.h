#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/cuda/host/status.h"
#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// Launches a kernel that calls ptx::wait_for_previous_kernel() first: its launch then overlaps with the end of the
/// kernel before it (programmatic stream serialization). Short kernels in a row are bound by such gaps.
template <typename... Parameters, typename... Arguments>
Status launch_early(const char* name, void (*kernel)(Parameters...), dim3 blocks, unsigned threads,
                    std::size_t shared_bytes, cudaStream_t stream, const Arguments&... arguments) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = blocks;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
    return device_status(cudaLaunchKernelEx(&config, kernel, arguments...), name);
}

/// launch_early() of a kernel that keeps every multiprocessor for itself, with the dynamic shared memory it asks for.
template <typename... Parameters, typename... Arguments>
Status launch_persistent(const char* name, void (*kernel)(Parameters...), int multiprocessors, unsigned threads,
                         std::size_t shared_bytes, cudaStream_t stream, const Arguments&... arguments) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
    if (error != cudaSuccess) return device_status(error, name);
    return launch_early(name, kernel, dim3(static_cast<unsigned>(multiprocessors)), threads, shared_bytes, stream,
                        arguments...);
}

}  // namespace mobalab::kernels::cuda
