#include "kernels/cuda/host/device.h"

#include <cuda_runtime.h>

#include <atomic>
#include <string>

namespace mobalab::kernels::cuda {
namespace {

/// Compiled like every kernel that both paths share.
__global__ void nothing_kernel() {}

Status describe(int index, Device& device) {
    const auto ask = [&](int& value, cudaDeviceAttr attribute) {
        return cudaDeviceGetAttribute(&value, attribute, index) == cudaSuccess;
    };
    if (!ask(device.major, cudaDevAttrComputeCapabilityMajor) ||
        !ask(device.minor, cudaDevAttrComputeCapabilityMinor)) {
        return {StatusCode::unsupported_device, "backend cuda: the device does not tell what it can do"};
    }
    device.index = index;
    return {};
}

}  // namespace

Status current_device(Device& device) {
    thread_local Device known = {-1};  // no driver is asked twice: launches ask each time
    int index = 0;
    if (const cudaError_t error = cudaGetDevice(&index); error != cudaSuccess) {
        cudaGetLastError();  // a machine without a device is no error of later calls
        return {StatusCode::unsupported_device, std::string("backend cuda: no usable CUDA device (") +
                                                    cudaGetErrorString(error) + "); nearest valid choice: cpu"};
    }
    if (known.index != index) {
        Device found;
        if (Status s = describe(index, found); !s.ok()) return s;
        known = found;
    }
    device = known;
    return {};
}

Status check_code(const Device& device) {
    static std::atomic<int> checked = -1;
    if (checked.load(std::memory_order_relaxed) == device.index) return {};
    cudaFuncAttributes attributes{};
    if (const cudaError_t error = cudaFuncGetAttributes(&attributes, nothing_kernel); error != cudaSuccess) {
        cudaGetLastError();
        return {StatusCode::unsupported_device,
                "backend cuda: this library holds no code that device " + std::to_string(device.index) +
                    " of compute capability " + std::to_string(device.major) + "." + std::to_string(device.minor) +
                    " runs (" + cudaGetErrorString(error) +
                    "); nearest valid choice: cpu, or a build that names it in MOBALAB_CUDA_ARCHITECTURES"};
    }
    checked.store(device.index, std::memory_order_relaxed);
    return {};
}

}  // namespace mobalab::kernels::cuda
