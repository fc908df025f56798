#include "kernels/cpu/convert.h"

#include <Eigen/Core>
#include <cstring>

namespace mobalab::kernels::cpu {
namespace {

template <typename Half>
using Row = Eigen::Array<Half, Eigen::Dynamic, 1>;

template <typename Half>
void widen(const void* row, std::int64_t count, float* values) {
    Eigen::Map<Row<float>>(values, count) =
        Eigen::Map<const Row<Half>>(static_cast<const Half*>(row), count).template cast<float>();
}

template <typename Half>
void narrow(void* row, std::int64_t count, const float* values) {
    Eigen::Map<Row<Half>>(static_cast<Half*>(row), count) =
        Eigen::Map<const Row<float>>(values, count).template cast<Half>();
}

std::int64_t byte_offset(DataType dtype, std::int64_t elements) {
    return elements * static_cast<std::int64_t>(size_of(dtype));
}

}  // namespace

void read_row(const void* row, DataType dtype, std::int64_t count, float* values) {
    switch (dtype) {
        case DataType::fp32:
            std::memcpy(values, row, static_cast<std::size_t>(count) * sizeof(float));
            break;
        case DataType::bf16:
            widen<Eigen::bfloat16>(row, count, values);
            break;
        case DataType::fp16:
            widen<Eigen::half>(row, count, values);
            break;
    }
}

void write_row(void* row, DataType dtype, std::int64_t count, const float* values) {
    switch (dtype) {
        case DataType::fp32:
            std::memcpy(row, values, static_cast<std::size_t>(count) * sizeof(float));
            break;
        case DataType::bf16:
            narrow<Eigen::bfloat16>(row, count, values);
            break;
        case DataType::fp16:
            narrow<Eigen::half>(row, count, values);
            break;
    }
}

float round_to(DataType dtype, float value) {
    switch (dtype) {
        case DataType::fp32:
            return value;
        case DataType::bf16:
            return static_cast<float>(static_cast<Eigen::bfloat16>(value));
        case DataType::fp16:
            return static_cast<float>(static_cast<Eigen::half>(value));
    }
    return value;
}

ConstTensor from_token(ConstTensor tensor, DataType dtype, std::int64_t batch, std::int64_t token) {
    const std::int64_t elements = batch * tensor.stride_batch + token * tensor.stride_token;
    if (elements != 0) tensor.data = static_cast<const char*>(tensor.data) + byte_offset(dtype, elements);
    return tensor;
}

Tensor from_token(Tensor tensor, DataType dtype, std::int64_t batch, std::int64_t token) {
    const std::int64_t elements = batch * tensor.stride_batch + token * tensor.stride_token;
    if (elements != 0) tensor.data = static_cast<char*>(tensor.data) + byte_offset(dtype, elements);
    return tensor;
}

const void* row_address(ConstTensor tensor, DataType dtype, std::int64_t token, std::int64_t head) {
    const std::int64_t elements = token * tensor.stride_token + head * tensor.stride_head;
    return static_cast<const char*>(tensor.data) + byte_offset(dtype, elements);
}

void* row_address(Tensor tensor, DataType dtype, std::int64_t token, std::int64_t head) {
    const std::int64_t elements = token * tensor.stride_token + head * tensor.stride_head;
    return static_cast<char*>(tensor.data) + byte_offset(dtype, elements);
}

}  // namespace mobalab::kernels::cpu
