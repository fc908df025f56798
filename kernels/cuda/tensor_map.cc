#include "kernels/cuda/tensor_map.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <array>

#include "kernels/cuda/status.h"

namespace mobalab::kernels::cuda {
namespace {

constexpr std::int64_t element_bytes = 2;
constexpr std::int64_t alignment = 16;

using EncodeTiled = decltype(&cuTensorMapEncodeTiled);

EncodeTiled look_up_encoder() {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
    return error == cudaSuccess && found == cudaDriverEntryPointSuccess ? reinterpret_cast<EncodeTiled>(function)
                                                                        : nullptr;
}

/// Through the runtime, so that programs need no link to the driver library and start on machines without one. Looked
/// up once: it takes longer than a launch.
Status find_encoder(EncodeTiled& encode) {
    static const EncodeTiled encoder = look_up_encoder();
    if (encoder == nullptr) {
        return {StatusCode::device_error,
                "the CUDA driver has no cuTensorMapEncodeTiled; a driver of CUDA 12.0 or newer is needed"};
    }
    encode = encoder;
    return {};
}

Status check_alignment(const char* name, const char* what, std::int64_t bytes) {
    if (bytes % alignment == 0) return {};
    return {StatusCode::invalid_argument,
            fmt::format("{}: {} of {} bytes must be a multiple of 16 bytes on backend cuda; nearest valid choice: {}",
                        name, what, bytes, (bytes + alignment - 1) / alignment * alignment)};
}

}  // namespace

Status make_tensor_map(const char* name, ConstTensor tensor, DataType dtype, std::int64_t tokens, std::int64_t heads,
                       std::int64_t head_dim, int box_rows, CUtensorMap& map) {
    if (reinterpret_cast<std::uintptr_t>(tensor.data) % alignment != 0) {
        return {StatusCode::invalid_argument,
                fmt::format("{} = {}: must be 16-byte aligned on backend cuda", name, tensor.data)};
    }
    const std::int64_t token_bytes = tensor.stride_token * element_bytes;
    // With one head its stride is never used, and may be anything.
    const std::int64_t head_bytes = heads == 1 ? token_bytes : tensor.stride_head * element_bytes;
    if (Status s = check_alignment(name, "token stride", token_bytes); !s.ok()) return s;
    if (Status s = check_alignment(name, "head stride", head_bytes); !s.ok()) return s;
    EncodeTiled encode = nullptr;
    if (Status s = find_encoder(encode); !s.ok()) return s;

    const std::array<cuuint64_t, 3> extents = {static_cast<cuuint64_t>(head_dim), static_cast<cuuint64_t>(heads),
                                               static_cast<cuuint64_t>(tokens)};
    const std::array<cuuint64_t, 2> strides = {static_cast<cuuint64_t>(head_bytes),
                                               static_cast<cuuint64_t>(token_bytes)};
    const std::array<cuuint32_t, 3> box = {tensor_box_elements, 1, static_cast<cuuint32_t>(box_rows)};
    const std::array<cuuint32_t, 3> steps = {1, 1, 1};
    const CUtensorMapDataType type =
        dtype == DataType::bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    const CUresult result = encode(&map, type, 3, const_cast<void*>(tensor.data), extents.data(), strides.data(),
                                   box.data(), steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                   CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (result == CUDA_SUCCESS) return {};
    return {StatusCode::invalid_argument,
            fmt::format(
                "{}: the driver refuses a tensor map (error {}) for tokens {}, heads {}, head_dim {}, strides {} and "
                "{} bytes",
                name, static_cast<int>(result), tokens, heads, head_dim, token_bytes, head_bytes)};
}

}  // namespace mobalab::kernels::cuda
