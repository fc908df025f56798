#pragma once

#include <cstdint>
#include <span>

#include "analysis/routing_point.h"
#include "sim/streams/philox.h"

namespace mobalab::sim {

/// Largest block of a scorer with sub-blocks: a trial holds its signal block's affinities at once.
inline constexpr std::int64_t kMostSubBlockKeys = 65536;

/// The cluster of a block whose sub-blocks are scored apart: there it matters which slots of the block the needle and
/// the m - 1 other tokens of the cluster stand in. They are a uniformly random m-subset of the B slots, in random
/// order:
///
///   slot t of the signal block begins with token t of the stream, tokens 0 .. m - 1 being the cluster, the needle
///   first; then, for i = m - 1 down to 0, slots i and i + floor(u_i (B - i) / 2^32) change their tokens,
///
/// u_i word i % 4 of draw kSlotDraw + i / 4 (sim/samplers/sampler.h). Why it is uniform: if tokens i .. m - 1 are
/// uniformly arranged in slots i .. B - 1, then so are tokens i - 1 .. m - 1 after one step more, which sends token i -
/// 1 to a uniform slot and whoever stood there to slot i - 1. Bias below B / 2^32. Tokens change places and nothing
/// else, so a block has the sum it has under the scorer `mean` in the same trial.
struct ClusterSlots {
    explicit ClusterSlots(const analysis::RoutingPoint& point);

    /// Puts the cluster's affinities into the block's, which come in stream order, and all into their slots.
    void place(std::span<std::int32_t> block, PhiloxKey key, std::uint64_t trial) const;

    std::uint64_t cluster_size;
    std::int32_t needle;  ///< in steps of 2^-30, so that needle + (m - 1) other is what the scorer `mean` adds
    std::int32_t other;
};

/// Throws analysis::InputError for a block larger than kMostSubBlockKeys.
void check_sub_blocks(const analysis::RoutingPoint& point);

}  // namespace mobalab::sim
