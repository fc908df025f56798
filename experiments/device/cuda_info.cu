#include <cuda_runtime.h>

#include "experiments/device/cuda_info.h"

namespace mobalab::experiments {
namespace {

constexpr int sign_of_life = 9000;

__global__ void prove_alive(int* answer) {
    *answer = sign_of_life;
}

/// Runs the kernel on the current device; empty when it answered.
std::string run_kernel() {
    int* answer = nullptr;
    cudaError_t error = cudaMallocManaged(&answer, sizeof *answer);
    if (error != cudaSuccess) {
        return cudaGetErrorString(error);
    }
    *answer = 0;
    prove_alive<<<1, 1>>>(answer);
    error = cudaGetLastError();
    if (error == cudaSuccess) {
        error = cudaDeviceSynchronize();
    }
    const bool alive = error == cudaSuccess && *answer == sign_of_life;
    cudaFree(answer);
    return alive ? "" : error == cudaSuccess ? "a kernel ran and wrote nothing" : cudaGetErrorString(error);
}

CudaDevice describe(int index) {
    CudaDevice device;
    cudaDeviceProp properties;
    cudaError_t error = cudaGetDeviceProperties(&properties, index);
    if (error == cudaSuccess) {
        device.name = properties.name;
        device.major = properties.major;
        device.minor = properties.minor;
        device.memory_gib = static_cast<double>(properties.totalGlobalMem) / (1 << 30);
        error = cudaSetDevice(index);
    }
    device.trouble = error == cudaSuccess ? run_kernel() : cudaGetErrorString(error);
    return device;
}

}  // namespace

CudaInfo cuda_info() {
    CudaInfo info;
    info.built = true;
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0) {
        info.trouble = error == cudaSuccess ? "no CUDA device" : cudaGetErrorString(error);
        return info;
    }
    int current = 0;
    cudaGetDevice(&current);
    for (int index = 0; index < count; ++index) {
        info.devices.push_back(describe(index));
    }
    cudaSetDevice(current);
    return info;
}

}  // namespace mobalab::experiments
