#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// Tensor map of a [tokens, heads, head_dim] tensor of 16-bit elements for ptx::tensor_load_3d: coordinates (element,
/// head, token), boxes of 64 elements x 1 head x `box_rows` tokens (at most 256) in the 128-byte swizzle that wgmma
/// descriptors expect. Elements past head_dim and tokens past the tensor arrive as zeros, so head_dim 32 and 96 are
/// padded for free. Errors: invalid_argument where data is not 16-byte aligned or a stride is not a multiple of 16
/// bytes; device_error where the driver has no such function. Strides must be resolved (not 0).
Status make_tensor_map(const char* name, ConstTensor tensor, DataType dtype, std::int64_t tokens, std::int64_t heads,
                       std::int64_t head_dim, int box_rows, CUtensorMap& map);

inline constexpr int tensor_box_elements = 64;  ///< inner extent of a box: 128 bytes

}  // namespace mobalab::kernels::cuda
