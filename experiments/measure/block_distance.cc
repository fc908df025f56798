#include "experiments/measure/block_distance.h"

#include <algorithm>
#include <bit>

namespace mobalab::experiments {

DistanceBin distance_bin(std::int64_t block_size, std::size_t bin) {
    const std::int64_t last_block = std::int64_t{1} << bin;
    const std::int64_t before = bin == 0 ? 0 : last_block / 2;
    return {.low = before * block_size + 1, .high = last_block * block_size + 1};
}

std::size_t bin_of_blocks_back(std::int64_t blocks) {
    return static_cast<std::size_t>(std::bit_width(static_cast<std::uint64_t>(blocks - 1)));
}

void add_row_of_blocks(DistanceHistogram& histogram, std::span<const std::int32_t> routed, std::int64_t needle,
                       std::int64_t candidates) {
    histogram.resize(std::max(histogram.size(), bin_of_blocks_back(candidates) + 1));
    for (const std::int32_t block : routed) {
        if (block >= 0) {
            ++histogram[bin_of_blocks_back(candidates - block)].routed;
        }
    }
    if (needle >= 0) {
        ++histogram[bin_of_blocks_back(candidates - needle)].needles;
    }
}

}  // namespace mobalab::experiments
