#pragma once

#include <span>

#include "kernels/kernels.h"

namespace mobalab::experiments {

/// Writes the values to `out` as elements of the dtype: rounded to nearest, ties to even; fp32 is copied.
void store_as(kernels::DataType dtype, std::span<const float> values, void* out);

/// Each value as an element of the dtype holds it.
void round_to(kernels::DataType dtype, std::span<float> values);

}  // namespace mobalab::experiments
