#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "experiments/device/cuda_resources.h"

namespace mobalab::experiments::cuda {

/// Elements in device memory that a stream takes and gives back in its own order: what is destroyed here is freed after
/// the work that was enqueued before. The contents are unspecified. All throw KernelError.
template <typename T>
class StreamArray {
public:
    StreamArray() = default;
    StreamArray(std::int64_t count, cudaStream_t stream) : count_(count), stream_(stream) {
        void* data = nullptr;
        check_cuda(cudaMallocAsync(&data, std::max<std::size_t>(bytes(), 1), stream), "memory of the device");
        data_ = static_cast<T*>(data);
    }
    StreamArray(StreamArray&& other) noexcept { swap(other); }
    StreamArray& operator=(StreamArray&& other) noexcept {
        StreamArray moved(std::move(other));
        swap(moved);
        return *this;
    }
    StreamArray(const StreamArray&) = delete;
    StreamArray& operator=(const StreamArray&) = delete;
    ~StreamArray() {
        if (data_ != nullptr) {
            cudaFreeAsync(data_, stream_);
        }
    }

    T* get() const { return data_; }
    std::int64_t count() const { return count_; }
    std::size_t bytes() const { return static_cast<std::size_t>(count_) * sizeof(T); }

    void clear() const { check_cuda(cudaMemsetAsync(data_, 0, bytes(), stream_), "clearing memory of the device"); }
    void upload(const T* values, std::int64_t count) const {
        check_cuda(cudaMemcpyAsync(data_, values, static_cast<std::size_t>(count) * sizeof(T), cudaMemcpyHostToDevice,
                                   stream_),
                   "copying to the device");
    }
    /// Waits for the stream.
    std::vector<T> download() const {
        std::vector<T> values(static_cast<std::size_t>(count_));
        check_cuda(cudaMemcpyAsync(values.data(), data_, bytes(), cudaMemcpyDeviceToHost, stream_),
                   "copying from the device");
        check_cuda(cudaStreamSynchronize(stream_), "waiting for the device");
        return values;
    }

private:
    void swap(StreamArray& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(count_, other.count_);
        std::swap(stream_, other.stream_);
    }

    T* data_ = nullptr;
    std::int64_t count_ = 0;
    cudaStream_t stream_ = nullptr;
};

}  // namespace mobalab::experiments::cuda
