#pragma once

#include <cstddef>
#include <cstdint>

#include "analysis/routing_point.h"
#include "sim/simd/instruction_set.h"

namespace mobalab::sim {

/// Turns a trial's affinities, taken in token order, into the rank of the signal block. Tokens [0, B) are the signal
/// block, of which the first m carry the fixed affinities of the cluster instead; every following B tokens are a noise
/// block. Scores are sums in steps of 2^-30 (the common factor 1/B changes no comparison).
class BlockRanks {
public:
    struct Shape {
        std::uint64_t block_size;
        std::uint64_t cluster_size;
        std::int64_t cluster_sum;  ///< affinities of the cluster, summed, in steps of 2^-30
        std::int64_t candidates;
    };

    BlockRanks(const Shape& shape, const HotLoops& loops, PhiloxKey key, std::uint64_t trial)
        : shape_(shape), loops_(loops), key_(key), trial_(trial), open_(shape.block_size) {}

    /// The next `count` tokens; may overwrite the affinities of the cluster's.
    void add(std::int32_t* affinities, std::size_t count);

    std::uint64_t rank() const { return above_; }

private:
    void close_block(std::int64_t sum);
    static constexpr std::size_t kSums = 128;

    const Shape& shape_;
    const HotLoops& loops_;
    PhiloxKey key_;
    std::uint64_t trial_;
    std::uint64_t open_;  ///< tokens the current block still lacks
    std::uint64_t taken_ = 0;
    std::uint64_t block_ = 0;
    std::int64_t sum_ = 0;
    std::int64_t signal_ = 0;
    std::uint64_t above_ = 0;
};

/// Largest block: sums in steps of 2^-30, those of a convolution included, stay below 2^63. Throws analysis::InputError
/// beyond it.
void check_block_sum(const analysis::RoutingPoint& point);

}  // namespace mobalab::sim
