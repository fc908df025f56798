#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "analysis/routing_point.h"
#include "sim/streams/philox.h"

namespace mobalab::sim {

/// Where the needles of one trial lie. Stream blocks 0 .. R-1 of a trial are its needle blocks, the others its noise
/// blocks in the order of their index. Needle i's words are those of draw kIndexDraw + i (sim/samplers/sampler.h): w0
/// gives its block's index, uniform among those the needles before it have left, w1 its cluster's offset, uniform in
/// [0, B - m]. One needle: the index is signal_block_index().
class NeedlePlaces {
public:
    NeedlePlaces(const analysis::RoutingPoint& point, PhiloxKey key, std::uint64_t trial);

    std::uint64_t needles() const { return index_.size(); }

    /// Index among the candidates, 0 the oldest, of a stream block.
    std::uint64_t index(std::uint64_t stream_block) const {
        return stream_block < needles() ? index_[static_cast<std::size_t>(stream_block)]
                                        : noise_index(stream_block - needles());
    }

    /// First token of the cluster in needle block i.
    std::uint64_t offset(std::uint64_t needle) const { return offset_[static_cast<std::size_t>(needle)]; }

    /// Stream block of every index: the inverse of index(). Resizes `blocks` to the candidates.
    void stream_blocks(std::vector<std::uint32_t>& blocks, std::int64_t candidates) const;

private:
    /// The number-th of the indices that no needle has.
    std::uint64_t noise_index(std::uint64_t number) const {
        for (const std::uint64_t taken : sorted_) {
            if (taken > number) {
                break;
            }
            ++number;
        }
        return number;
    }

    std::vector<std::uint64_t> index_;
    std::vector<std::uint64_t> offset_;
    std::vector<std::uint64_t> sorted_;  ///< index_, ascending
};

/// How many blocks beat the needle that decides the goal: needle 0 (each), the best (any) or the worst (all). The goal
/// is missed where `routed` or more do. `scores` are those of the stream blocks; equal scores go to the higher index.
template <class Score>
std::uint64_t goal_rank(std::span<const Score> scores, analysis::Goal goal, const NeedlePlaces& places) {
    const auto beats = [&](std::uint64_t a, std::uint64_t b) {
        return scores[a] > scores[b] || (scores[a] == scores[b] && places.index(a) > places.index(b));
    };
    std::uint64_t target = 0;
    for (std::uint64_t needle = 1; needle < places.needles(); ++needle) {
        const bool better = goal == analysis::Goal::any && beats(needle, target);
        const bool worse = goal == analysis::Goal::all && beats(target, needle);
        target = better || worse ? needle : target;
    }
    std::uint64_t rank = 0;
    for (std::uint64_t block = 0; block < scores.size(); ++block) {
        if (scores[block] >= scores[target]) {
            rank += block != target && beats(block, target) ? 1U : 0U;
        }
    }
    return rank;
}

}  // namespace mobalab::sim
