#include "sim/samplers/cluster_slots.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "sim/samplers/sampler.h"
#include "sim/streams/transforms.h"

namespace mobalab::sim {
namespace {

std::int64_t steps(double affinity) {
    return std::llround(affinity * static_cast<double>(kAffinityScale));
}

}  // namespace

ClusterSlots::ClusterSlots(const analysis::RoutingPoint& point)
    : cluster_size(static_cast<std::uint64_t>(point.cluster_size)),
      other(static_cast<std::int32_t>(steps(point.mu_cluster))) {
    needle = static_cast<std::int32_t>(steps(point.delta_mu_eff()) - (point.cluster_size - 1) * std::int64_t{other});
}

void ClusterSlots::place(std::span<std::int32_t> block, PhiloxKey key, std::uint64_t trial) const {
    for (std::size_t token = 0; token < cluster_size; ++token) {
        block[token] = token == 0 ? needle : other;
    }
    for (std::size_t i = cluster_size; i-- > 0;) {
        const std::uint64_t word = philox_block(key, trial, kSlotDraw + i / 4)[i % 4];
        std::swap(block[i], block[i + static_cast<std::size_t>((word * (block.size() - i)) >> 32U)]);
    }
}

void check_sub_blocks(const analysis::RoutingPoint& point) {
    if (point.block_size > kMostSubBlockKeys) {
        throw analysis::InputError(
            fmt::format("block_size = {} with scorer = {}: simulation takes at most {}; nearest valid value is {}",
                        point.block_size, analysis::to_string(point.scorer), kMostSubBlockKeys, kMostSubBlockKeys));
    }
}

}  // namespace mobalab::sim
