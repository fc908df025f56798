#pragma once

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <cstddef>
#include <string>

#include "experiments/base/check.h"

namespace mobalab::experiments {

// CUDA objects that release themselves. Constructors and functions throw KernelError; destructors ignore errors: after
// a failure of the device every call fails, and the first one has been told.

inline void check_cuda(cudaError_t error, const char* what) {
    if (error != cudaSuccess) {
        throw KernelError(fmt::format("cuda: {}: {}", what, cudaGetErrorString(error)));
    }
}

/// Memory that only grows; growing loses the contents.
template <cudaError_t (*Allocate)(void**, std::size_t), cudaError_t (*Free)(void*)>
class GrowingMemory {
public:
    GrowingMemory() = default;
    explicit GrowingMemory(std::size_t bytes) { reserve(bytes); }
    GrowingMemory(const GrowingMemory&) = delete;
    GrowingMemory& operator=(const GrowingMemory&) = delete;
    ~GrowingMemory() { Free(data_); }

    void reserve(std::size_t bytes) {
        if (bytes > bytes_) {
            Free(data_);
            data_ = nullptr;
            bytes_ = 0;
            check_cuda(Allocate(&data_, bytes), fmt::format("{} bytes of memory", bytes).c_str());
            bytes_ = bytes;
        }
    }
    std::size_t bytes() const { return bytes_; }
    template <typename T = void>
    T* as() const {
        return static_cast<T*>(data_);
    }

private:
    void* data_ = nullptr;
    std::size_t bytes_ = 0;
};

using DeviceMemory = GrowingMemory<&cudaMalloc, &cudaFree>;
using PinnedMemory = GrowingMemory<&cudaMallocHost, &cudaFreeHost>;  ///< of the host, for copies that do not block it

class CudaStream {
public:
    CudaStream() { check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream"); }
    CudaStream(const CudaStream&) = delete;
    CudaStream& operator=(const CudaStream&) = delete;
    ~CudaStream() { cudaStreamDestroy(stream_); }
    cudaStream_t get() const { return stream_; }
    void synchronize() const { check_cuda(cudaStreamSynchronize(stream_), "waiting for the device"); }

private:
    cudaStream_t stream_ = nullptr;
};

class CudaEvent {
public:
    explicit CudaEvent(unsigned flags = cudaEventDefault) {
        check_cuda(cudaEventCreateWithFlags(&event_, flags), "event");
    }
    CudaEvent(const CudaEvent&) = delete;
    CudaEvent& operator=(const CudaEvent&) = delete;
    ~CudaEvent() { cudaEventDestroy(event_); }
    cudaEvent_t get() const { return event_; }
    void record(const CudaStream& stream) const { check_cuda(cudaEventRecord(event_, stream.get()), "event"); }
    void synchronize() const { check_cuda(cudaEventSynchronize(event_), "waiting for the device"); }

private:
    cudaEvent_t event_ = nullptr;
};

/// Name of a device, as nvidia-smi shows it.
inline std::string device_name(int device) {
    cudaDeviceProp properties;
    check_cuda(cudaGetDeviceProperties(&properties, device), "device properties");
    return properties.name;
}

}  // namespace mobalab::experiments
