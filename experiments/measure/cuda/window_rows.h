#pragma once

#include <cstdint>

namespace mobalab::experiments::cuda {

/// Consecutive query rows of one head; the first stands at `position`, the next one at position + 1, and so on.
struct WindowRows {
    std::int32_t rows = 0;
    std::int32_t position = 0;
};

/// The finest block that sums are kept for. Every block size that is measured is a power of two times it.
inline constexpr int unit_keys = 16;

/// A needle is distant where it is more than this many keys before the row.
inline constexpr int distant_keys = 1024;

}  // namespace mobalab::experiments::cuda
