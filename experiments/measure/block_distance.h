#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace mobalab::experiments {

// How far back a block lies: from its last key to the row's position t, in tokens. Bins are octaves of whole blocks, so
// that a block stays in its bin wherever in its own block the row stands: own block - block is 1, 2, 3 ... 4, 5 ... 8,
// ..., 2^(i-1) + 1 ... 2^i in bin i. They depend on the block size alone.

/// Distances low ... high - 1, in tokens.
struct DistanceBin {
    std::int64_t low;
    std::int64_t high;
};

/// Bin i of blocks of so many keys: the first holds the block before the row's own.
DistanceBin distance_bin(std::int64_t block_size, std::size_t bin);

/// The bin of a block so many blocks before the row's own, at least 1.
std::size_t bin_of_blocks_back(std::int64_t blocks);

/// What lies in one bin, over the rows of a setting.
struct DistanceCounts {
    std::int64_t routed = 0;   ///< blocks
    std::int64_t needles = 0;  ///< rows whose needle's block it is
    friend bool operator==(const DistanceCounts&, const DistanceCounts&) = default;
};

/// By bin, as far as the candidates of the rows reach.
using DistanceHistogram = std::vector<DistanceCounts>;

/// Adds a row with so many candidates, at least 1: its routed blocks (negative slots are empty) and its needle's block,
/// -1: it has none.
void add_row_of_blocks(DistanceHistogram& histogram, std::span<const std::int32_t> routed, std::int64_t needle,
                       std::int64_t candidates);

}  // namespace mobalab::experiments
