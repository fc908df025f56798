#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/cuda/host/status.h"
#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// Whether code for the current device knows ptx::wait_for_previous_kernel(): on 9.0 where the library has 90a.
/// Elsewhere the device may run the PTX of an older architecture, which does not wait.
bool launches_early();

/// Lets a kernel have `bytes` of dynamic shared memory. An error where its thread blocks would then have more than the
/// device or MOBALAB_CUDA_SHARED_MEMORY allows.
Status allow_shared_memory(const char* name, const void* kernel, std::size_t bytes);

/// Launches a kernel that calls ptx::wait_for_previous_kernel() first: where the device can, its launch overlaps with
/// the end of the kernel before it (programmatic stream serialization). Short kernels in a row are bound by such gaps.
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
    config.numAttrs = launches_early() ? 1 : 0;
    return device_status(cudaLaunchKernelEx(&config, kernel, arguments...), name);
}

/// launch_early() of a kernel that keeps every multiprocessor for itself, with the dynamic shared memory it asks for.
template <typename... Parameters, typename... Arguments>
Status launch_persistent(const char* name, void (*kernel)(Parameters...), int multiprocessors, unsigned threads,
                         std::size_t shared_bytes, cudaStream_t stream, const Arguments&... arguments) {
    if (Status s = allow_shared_memory(name, reinterpret_cast<const void*>(kernel), shared_bytes); !s.ok()) return s;
    return launch_early(name, kernel, dim3(static_cast<unsigned>(multiprocessors)), threads, shared_bytes, stream,
                        arguments...);
}

}  // namespace mobalab::kernels::cuda
