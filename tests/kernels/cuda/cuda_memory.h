#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <bit>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace mobalab::kernels::testing_support {

inline void check_cuda(cudaError_t error, const char* what) {
    if (error != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

/// Device memory that starts as NaN bytes between two canaries.
class DeviceBuffer {
public:
    explicit DeviceBuffer(std::size_t bytes) : bytes_(bytes) {
        check_cuda(cudaMalloc(&base_, bytes_ + 2 * canary_bytes), "cudaMalloc");
        poison();
    }
    DeviceBuffer(const DeviceBuffer&) = delete;
    DeviceBuffer& operator=(const DeviceBuffer&) = delete;
    ~DeviceBuffer() { cudaFree(base_); }

    void* get() const { return static_cast<unsigned char*>(base_) + canary_bytes; }
    std::size_t bytes() const { return bytes_; }
    template <typename T>
    T* as() const {
        return static_cast<T*>(get());
    }
    void poison() const {
        check_cuda(cudaMemset(base_, canary, bytes_ + 2 * canary_bytes), "cudaMemset");
        check_cuda(cudaMemset(get(), 0xff, bytes_), "cudaMemset");
    }
    bool canaries_intact() const {
        std::vector<unsigned char> edge(canary_bytes);
        for (const void* from :
             {static_cast<const void*>(base_), static_cast<const void*>(static_cast<unsigned char*>(get()) + bytes_)}) {
            check_cuda(cudaMemcpy(edge.data(), from, canary_bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
            for (const unsigned char byte : edge) {
                if (byte != canary) return false;
            }
        }
        return true;
    }
    template <typename T>
    void write(const std::vector<T>& values) const {
        check_cuda(cudaMemcpy(get(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
    }
    template <typename T>
    std::vector<T> read() const {
        std::vector<T> values(bytes_ / sizeof(T));
        check_cuda(cudaMemcpy(values.data(), get(), values.size() * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
        return values;
    }

private:
    static constexpr std::size_t canary_bytes = 4096;
    static constexpr unsigned char canary = 0xa5;
    std::size_t bytes_;
    void* base_ = nullptr;
};

inline std::uint16_t to_bits(float x, DataType dtype) {
    if (dtype == DataType::bf16) return std::bit_cast<std::uint16_t>(__float2bfloat16(x));
    return std::bit_cast<std::uint16_t>(__float2half(x));
}
inline float from_bits(std::uint16_t bits, DataType dtype) {
    if (dtype == DataType::bf16) return __bfloat162float(std::bit_cast<__nv_bfloat16>(bits));
    return __half2float(std::bit_cast<__half>(bits));
}
inline std::vector<float> from_bits(const std::vector<std::uint16_t>& bits, DataType dtype) {
    std::vector<float> values(bits.size());
    for (std::size_t i = 0; i < bits.size(); ++i) values[i] = from_bits(bits[i], dtype);
    return values;
}

/// A counter-based stream: element i of `seed` is the same wherever and in whatever order it is asked for.
inline std::uint64_t mix(std::uint64_t seed, std::uint64_t i) {
    std::uint64_t x = seed * 0x9e3779b97f4a7c15ull + i * 0xbf58476d1ce4e5b9ull + 0x94d049bb133111ebull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

}  // namespace mobalab::kernels::testing_support
