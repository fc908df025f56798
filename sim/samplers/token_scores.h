#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "analysis/routing_point.h"
#include "sim/samplers/needles.h"
#include "sim/simd/instruction_set.h"

namespace mobalab::sim {

/// Block scores of a trial from independent affinities w_t, token by token in stream order, for points with several
/// needles, correlated keys or a linear key convolution. All of these act on affinities alone:
///
/// - Correlated keys: with y = q.c of the block's common component (the law of one affinity in d dimensions) and w_t
///   affinities in d - 1 dimensions, q.k_t = sqrt(rho) y + sqrt(1 - rho) sqrt(1 - y^2) w_t. (u_t is uniform on the
///   sphere orthogonal to c, where q has length sqrt(1 - y^2).)
/// - Linear convolution, a'_t = a_t + tap sum over l < W of a_(t-l): a block's sum of a' is
///   A + tap (W A - T + T_previous), A its sum of a and T = sum over r < W - 1 of (W - 1 - r) a_(last - r).
///
/// Sums of w are exact integers, in steps of 2^-30; what follows from them is computed in double and cut to steps.
class TokenScores {
public:
    /// What the point says, in the form the sums need.
    struct Shape {
        explicit Shape(const analysis::RoutingPoint& point);

        std::uint64_t block_size;
        std::uint64_t cluster_size;
        std::uint64_t needles;
        std::int64_t candidates;
        std::int64_t cluster_sum;  ///< affinities of the cluster, summed, in steps
        std::int64_t mu_signal;    ///< in steps
        std::int64_t mu_cluster;
        bool correlated;
        double common_share;  ///< sqrt(rho)
        double own_share;     ///< 1 - rho
        std::uint64_t width;  ///< W; 0: no convolution
        double tap;
    };

    /// `common` holds y of every stream block where the shape is correlated.
    TokenScores(const Shape& shape, const HotLoops& loops)
        : shape_(shape), loops_(loops), scores_(static_cast<std::size_t>(shape.candidates)) {}

    /// Begins a trial.
    void begin(const NeedlePlaces& places);
    /// y of every stream block, to be filled before the first add() where the shape is correlated; room for whole
    /// tiles.
    std::vector<std::int32_t>& common() { return common_; }
    /// The next `count` affinities w; may overwrite those of the cluster.
    void add(std::int32_t* affinities, std::size_t count);
    /// After the last one: the scores of the stream blocks.
    std::span<const std::int64_t> finish(const NeedlePlaces& places);

private:
    void clear_cluster(std::int32_t* affinities, std::size_t run);
    void add_run(const std::int32_t* affinities, std::size_t run);
    void close_block();
    std::uint64_t tail_weight(std::uint64_t token) const {
        const std::uint64_t first = shape_.block_size - shape_.width;  // of weight 0
        return shape_.width > 0 && token > first ? token - first : 0;
    }
    std::int64_t with_common(std::int64_t own, std::uint64_t weight) const;

    const Shape& shape_;
    const HotLoops& loops_;
    const NeedlePlaces* places_ = nullptr;
    std::vector<std::int64_t> scores_;  ///< A, then the scores
    std::vector<std::int64_t> tails_;   ///< T
    std::vector<std::int32_t> common_;
    std::vector<std::uint32_t> order_;
    std::uint64_t block_ = 0;
    std::uint64_t token_ = 0;  ///< in the block
    std::int64_t own_ = 0;     ///< sum of w in the block so far
    std::int64_t tail_ = 0;    ///< the same with the weights of T
};

}  // namespace mobalab::sim
