#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

struct MapExtents {
    std::int64_t batch, tokens, heads, head_dim;
};
/// Of tensors of queries and of keys: with cu_seqlens, one entry of all tokens.
MapExtents query_extents(const Problem& problem);
MapExtents key_extents(const Problem& problem);
/// The same of outputs and of values, whose rows have value_dim() elements.
MapExtents output_extents(const Problem& problem);
MapExtents value_extents(const Problem& problem);

/// Tensor map of a [batch, tokens, heads, head_dim] tensor of 16-bit elements for ptx::tensor_load_4d: coordinates
/// (element, head, token, batch), boxes of 64 elements x 1 head x `box_rows` tokens (at most 256) in the 128-byte
/// swizzle that wgmma descriptors expect. Elements past head_dim and tokens past the extent arrive as zeros, so
/// head_dim 32 and 96 are padded for free. Errors: invalid_argument where data is not 16-byte aligned or a stride is
/// not a multiple of 16 bytes; device_error where the driver has no such function. Strides must be resolved; 0 is a
/// stride.
Status make_tensor_map(const char* name, ConstTensor tensor, DataType dtype, const MapExtents& extents, int box_rows,
                       CUtensorMap& map);

inline constexpr int tensor_box_elements = 64;  ///< inner extent of a box: 128 bytes

}  // namespace mobalab::kernels::cuda
