#pragma once

#include <algorithm>
#include <cstdint>

namespace mobalab::kernels {

/// How far an fp32 sum of so many products may be from the exact one, in units of 2^-24 of the sum of their magnitudes:
/// an addition each, doubled for tensor cores, which truncate. These add 16 products at once, aligned to the largest,
/// however few there are.
inline double score_rounding(std::int64_t products) {
    return 2.0 * static_cast<double>(std::max<std::int64_t>(products, 16));
}

}  // namespace mobalab::kernels
