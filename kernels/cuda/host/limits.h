#pragma once

#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// What this backend asks beyond kernels.h.
Status check_limits(Operation operation, const Problem& problem);

/// Kernels read rows in 16-byte pieces: base and strides must be multiples of 16 bytes. Strides are resolved, so those
/// of extents of 1 are.
Status check_rows_aligned(const char* name, const ConstTensor& tensor);
inline Status check_rows_aligned(const char* name, const Tensor& tensor) {
    return check_rows_aligned(name, as_const(tensor));
}

}  // namespace mobalab::kernels::cuda
