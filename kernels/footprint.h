#pragma once

#include <array>
#include <cstdint>

#include "kernels/kernels.h"

namespace mobalab::kernels {

/// Extent and stride (in elements) of one dimension of an array.
struct Dimension {
    std::int64_t extent = 1;
    std::int64_t stride = 0;
};

/// The memory that an argument of a call covers: rows of `row` consecutive elements, one for every index of three
/// dimensions. A flat array is one row.
struct Footprint {
    const char* name = "";
    const void* data = nullptr;
    std::int64_t element_bytes = 1;
    std::int64_t row = 0;
    std::array<Dimension, 3> dimensions{};
    bool written = false;

    bool empty() const;
    std::int64_t span() const;  ///< elements from the first to behind the last; 0 where there is none
};

/// Whether two rows of one array share an element. Exact: strides need not be nested.
bool rows_overlap(const Footprint& array);

/// Whether two arrays share an element. Exact where both have the same strides, as parts of one packed tensor do;
/// otherwise arrays whose ranges of addresses meet count as overlapping.
bool overlap(const Footprint& a, const Footprint& b);

}  // namespace mobalab::kernels
