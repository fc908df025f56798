#include "kernels/cuda/host/launch.h"

#include <fmt/format.h>

#include "kernels/cuda/host/path.h"
#include "kernels/cuda/host/path_table.h"

namespace mobalab::kernels::cuda {

bool launches_early() {
    Device device;
    return hopper_path_table() != nullptr && current_device(device).ok() && device.major == 9 && device.minor == 0;
}

Status allow_shared_memory(const char* name, const void* kernel, std::size_t bytes) {
    if (const std::optional<std::int64_t> limit = asked_shared_memory()) {
        cudaFuncAttributes attributes{};
        if (Status s = device_status(cudaFuncGetAttributes(&attributes, kernel), name); !s.ok()) return s;
        if (const std::size_t all = bytes + attributes.sharedSizeBytes; all > static_cast<std::size_t>(*limit)) {
            return {StatusCode::device_error, fmt::format("{}: needs {} bytes of shared memory, and "
                                                          "MOBALAB_CUDA_SHARED_MEMORY = {}",
                                                          name, all, *limit)};
        }
    }
    return device_status(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)), name);
}

}  // namespace mobalab::kernels::cuda
