#include "kernels/cuda/host/tensor_map.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cstdint>
#include <utility>

#include "kernels/cuda/host/limits.h"
#include "kernels/cuda/host/status.h"

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

/// The driver looks at strides of extents of 1 too: those are anything it takes.
cuuint64_t stride_bytes(std::int64_t extent, std::int64_t stride) {
    return static_cast<cuuint64_t>(extent > 1 ? stride * element_bytes : alignment);
}

/// How much L2 fetches where a copy misses it: the most, of pieces that hold parts of no other head's rows. Those would
/// take the place of what is read again, and be gone before their own head is looked at.
CUtensorMapL2promotion promotion_of(const ConstTensor& tensor, const MapExtents& e) {
    constexpr std::array<std::pair<std::int64_t, CUtensorMapL2promotion>, 3> promotions = {
        {{256, CU_TENSOR_MAP_L2_PROMOTION_L2_256B},
         {128, CU_TENSOR_MAP_L2_PROMOTION_L2_128B},
         {64, CU_TENSOR_MAP_L2_PROMOTION_L2_64B}}};
    if (e.heads == 1 || tensor.stride_token == e.head_dim) return promotions.front().second;
    const std::int64_t batches = e.batch > 1 ? tensor.stride_batch : 0;
    const auto starts = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(tensor.data)) |
                        (tensor.stride_head | tensor.stride_token | batches) * element_bytes;
    for (const auto& [bytes, promotion] : promotions) {
        if (starts % bytes == 0) return promotion;
    }
    return CU_TENSOR_MAP_L2_PROMOTION_NONE;
}

/// The driver's own functions find no context on a thread that has called nothing of the runtime yet, as one of
/// torch's that run backward passes; the runtime makes the device's context current there when it is told the device.
bool make_context_current() {
    int device = 0;
    return cudaGetDevice(&device) == cudaSuccess && cudaSetDevice(device) == cudaSuccess;
}

}  // namespace

MapExtents query_extents(const Problem& p) {
    const bool packed = p.cu_seqlens_q != nullptr;
    return {packed ? 1 : p.batch, packed ? p.total_q : p.seqlen_q, p.heads_q, p.head_dim};
}

MapExtents key_extents(const Problem& p) {
    const bool packed = p.cu_seqlens_k != nullptr;
    return {packed ? 1 : p.batch, packed ? p.total_k : p.seqlen_k, p.heads_k, p.head_dim};
}

MapExtents output_extents(const Problem& p) {
    MapExtents extents = query_extents(p);
    extents.head_dim = p.value_dim();
    return extents;
}

MapExtents value_extents(const Problem& p) {
    MapExtents extents = key_extents(p);
    extents.head_dim = p.value_dim();
    return extents;
}

Status make_tensor_map(const char* name, ConstTensor tensor, DataType dtype, const MapExtents& e, int box_rows,
                       CUtensorMap& map) {
    if (Status s = check_rows_aligned(name, tensor); !s.ok()) return s;
    EncodeTiled encode = nullptr;
    if (Status s = find_encoder(encode); !s.ok()) return s;

    const std::array<cuuint64_t, 4> extents = {static_cast<cuuint64_t>(e.head_dim), static_cast<cuuint64_t>(e.heads),
                                               static_cast<cuuint64_t>(e.tokens), static_cast<cuuint64_t>(e.batch)};
    const std::array<cuuint64_t, 3> strides = {stride_bytes(e.heads, tensor.stride_head),
                                               stride_bytes(e.tokens, tensor.stride_token),
                                               stride_bytes(e.batch, tensor.stride_batch)};
    const std::array<cuuint32_t, 4> box = {tensor_box_elements, 1, static_cast<cuuint32_t>(box_rows), 1};
    const std::array<cuuint32_t, 4> steps = {1, 1, 1, 1};
    const CUtensorMapDataType type =
        dtype == DataType::bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    const auto make = [&] {
        return encode(&map, type, 4, const_cast<void*>(tensor.data), extents.data(), strides.data(), box.data(),
                      steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, promotion_of(tensor, e),
                      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    };
    CUresult result = make();
    if (result == CUDA_ERROR_INVALID_CONTEXT && make_context_current()) result = make();
    if (result == CUDA_SUCCESS) return {};
    return {
        StatusCode::invalid_argument,
        fmt::format("{}: the driver refuses a tensor map (error {}) for [batch {}, tokens {}, heads {}, head_dim "
                    "{}] with strides of {} bytes (at most 2^40); nearest valid choice: a contiguous tensor",
                    name, static_cast<int>(result), e.batch, e.tokens, e.heads, e.head_dim, fmt::join(strides, ", "))};
}

}  // namespace mobalab::kernels::cuda
