#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <type_traits>

#include "kernels/kernels.h"

namespace mobalab::experiments::cuda {

/// body(T{}, width) with T the 16-bit element type and width an integral_constant of one of the measured head sizes
/// (32, 64, 96, 128, 256); cudaErrorInvalidValue where there is no such kernel.
template <typename Body>
cudaError_t by_head_dim(kernels::DataType dtype, int head_dim, const Body& body) {
    const auto of_type = [&](auto element) -> cudaError_t {
        switch (head_dim) {
            case 32:
                return body(element, std::integral_constant<int, 32>{});
            case 64:
                return body(element, std::integral_constant<int, 64>{});
            case 96:
                return body(element, std::integral_constant<int, 96>{});
            case 128:
                return body(element, std::integral_constant<int, 128>{});
            case 256:
                return body(element, std::integral_constant<int, 256>{});
            default:
                return cudaErrorInvalidValue;
        }
    };
    if (dtype == kernels::DataType::bf16) return of_type(__nv_bfloat16{});
    if (dtype == kernels::DataType::fp16) return of_type(__half{});
    return cudaErrorInvalidValue;
}

/// Launches a kernel over a window and says what the launch said.
template <typename Args>
cudaError_t launch(void (*kernel)(Args), dim3 blocks, int threads, std::size_t shared_bytes, cudaStream_t stream,
                   const Args& args) {
    if (shared_bytes > 0) {
        const cudaError_t error =
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
        if (error != cudaSuccess) return error;
    }
    cudaLaunchConfig_t config{};
    config.gridDim = blocks;
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    return cudaLaunchKernelEx(&config, kernel, args);
}

constexpr unsigned pieces(std::int64_t count, std::int64_t of) {
    return static_cast<unsigned>((count + of - 1) / of);
}

}  // namespace mobalab::experiments::cuda
