#pragma once

#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// What this backend asks beyond kernels.h.
Status check_limits(Operation operation, const Problem& problem);

/// Kernels read rows in 16-byte pieces: base and strides must be multiples of 16 bytes.
Status check_rows_aligned(const char* name, const void* data, std::int64_t stride_token, std::int64_t stride_head,
                          std::int64_t heads);

/// A device of compute capability 9.0 is present and current.
Status check_device();

}  // namespace mobalab::kernels::cuda
