#include "sim/samplers/needles.h"

#include "sim/samplers/sampler.h"

namespace mobalab::sim {
namespace {

/// Uniform in [0, bound) from one word; bias below bound / 2^32.
std::uint64_t below(std::uint32_t word, std::int64_t bound) {
    return (static_cast<std::uint64_t>(word) * static_cast<std::uint64_t>(bound)) >> 32U;
}

}  // namespace

NeedlePlaces::NeedlePlaces(const analysis::RoutingPoint& point, PhiloxKey key, std::uint64_t trial) {
    const std::int64_t offsets = point.block_size - point.cluster_size + 1;
    for (std::int64_t needle = 0; needle < point.needles; ++needle) {
        const auto words = philox_block(key, trial, kIndexDraw + static_cast<std::uint64_t>(needle));
        const std::uint64_t index = noise_index(below(words[0], point.candidates - needle));
        index_.push_back(index);
        offset_.push_back(below(words[1], offsets));
        sorted_.insert(std::upper_bound(sorted_.begin(), sorted_.end(), index), index);
    }
}

void NeedlePlaces::stream_blocks(std::vector<std::uint32_t>& blocks, std::int64_t candidates) const {
    blocks.assign(static_cast<std::size_t>(candidates), UINT32_MAX);
    for (std::size_t needle = 0; needle < index_.size(); ++needle) {
        blocks[static_cast<std::size_t>(index_[needle])] = static_cast<std::uint32_t>(needle);
    }
    auto next = static_cast<std::uint32_t>(index_.size());
    for (std::uint32_t& block : blocks) {
        block = block == UINT32_MAX ? next++ : block;
    }
}

}  // namespace mobalab::sim
