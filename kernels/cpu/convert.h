#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace mobalab::kernels::cpu {

/// 16-bit conversions round to nearest, ties to even; fp32 passes unchanged.
void read_row(const void* row, DataType dtype, std::int64_t count, float* values);
void write_row(void* row, DataType dtype, std::int64_t count, const float* values);

/// The value that `dtype` keeps of an fp32 number.
float round_to(DataType dtype, float value);

/// Address of row (token, head) of a tensor with resolved strides.
const void* row_address(ConstTensor tensor, DataType dtype, std::int64_t token, std::int64_t head);
void* row_address(Tensor tensor, DataType dtype, std::int64_t token, std::int64_t head);

}  // namespace mobalab::kernels::cpu
