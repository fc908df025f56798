#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace mobalab::kernels::cpu {

/// 16-bit conversions round to nearest, ties to even; fp32 passes unchanged.
void read_row(const void* row, DataType dtype, std::int64_t count, float* values);
void write_row(void* row, DataType dtype, std::int64_t count, const float* values);

/// The value that `dtype` keeps of an fp32 number.
float round_to(DataType dtype, float value);

/// The tensor from token `token` of entry `batch` on. Strides must be resolved, here and below.
ConstTensor from_token(ConstTensor tensor, DataType dtype, std::int64_t batch, std::int64_t token);
Tensor from_token(Tensor tensor, DataType dtype, std::int64_t batch, std::int64_t token);

/// Address of row (token, head) of the first entry of the batch.
const void* row_address(ConstTensor tensor, DataType dtype, std::int64_t token, std::int64_t head);
void* row_address(Tensor tensor, DataType dtype, std::int64_t token, std::int64_t head);

}  // namespace mobalab::kernels::cpu
