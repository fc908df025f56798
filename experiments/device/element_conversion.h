#pragma once

#include <span>

#include "kernels/kernels.h"

namespace mobalab::experiments {

/// Writes the values to `out` as elements of the dtype: rounded to nearest, ties to even; fp32 is copied.
void store_as(kernels::DataType dtype, std::span<const float> values, void* out);

}  // namespace mobalab::experiments
