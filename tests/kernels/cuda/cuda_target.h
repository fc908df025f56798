#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/kernels/conformance/moba_conformance.h"

namespace mobalab::kernels::conformance {

/// Tensors of the CUDA backend.
class CudaMemory final : public Memory {
public:
    void* allocate(std::size_t bytes) override {
        void* pointer = nullptr;
        check(cudaMalloc(&pointer, bytes), "cudaMalloc");
        return pointer;
    }
    void release(void* pointer) override { check(cudaFree(pointer), "cudaFree"); }
    void write(void* to, const void* from_host, std::size_t bytes) override {
        check(cudaMemcpy(to, from_host, bytes, cudaMemcpyHostToDevice), "copy to the device");
    }
    void read(void* to_host, const void* from, std::size_t bytes) override {
        check(cudaDeviceSynchronize(), "kernels");
        check(cudaMemcpy(to_host, from, bytes, cudaMemcpyDeviceToHost), "copy from the device");
    }

private:
    static void check(cudaError_t error, const char* what) {
        if (error != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
    }
};

inline std::vector<Target> cuda_targets() {
    const auto memory = std::make_shared<CudaMemory>();
    std::vector<Target> targets;
    for (const auto& [dtype, name] : {std::pair(DataType::bf16, "bf16"), std::pair(DataType::fp16, "fp16")}) {
        Target target;
        target.name = std::string("cuda_") + name;
        target.backend = Backend::cuda;
        target.dtype = dtype;
        target.memory = memory;
        target.repeats = 20;
        targets.push_back(target);
    }
    return targets;
}

}  // namespace mobalab::kernels::conformance
