#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/kernels.h"

namespace mobalab::kernels {

/// How far an fp32 sum of so many products may be from the exact one, in units of 2^-24 of the sum of their magnitudes:
/// an addition each, doubled for tensor cores, which truncate. These add 16 products at once, aligned to the largest,
/// however few there are.
inline double score_rounding(std::int64_t products) {
    return 2.0 * static_cast<double>(std::max<std::int64_t>(products, 16));
}

/// How far rounding to a format may move a number, at most, as a share of it.
inline double unit_roundoff(DataType dtype) {
    return dtype == DataType::bf16 ? 0x1p-8 : dtype == DataType::fp16 ? 0x1p-11 : 0x1p-24;
}

/// How far a score may be from the exact one, as a share of the sum of the magnitudes of its products. Centroids::fp32
/// may be split into two halves of the input's dtype: the second is what the first leaves, rounded.
inline double score_error(const Problem& problem, std::int64_t products) {
    const double split = problem.centroids == Centroids::fp32 ? std::pow(unit_roundoff(problem.dtype), 2) : 0.0;
    return std::ldexp(score_rounding(products), -24) + split;
}

}  // namespace mobalab::kernels
