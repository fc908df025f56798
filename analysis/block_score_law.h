#pragma once

#include <cstdint>
#include <memory>

namespace mobalab::analysis {

class AffinitySum;

/// Exact law of the score of a noise block in the `sphere` model: X = T_B / B, the mean of B independent affinities of
/// a unit query with unit keys uniform on the sphere S^(d-1). Symmetric around 0, support [-1, 1], variance 1 / (d B).
/// B affinities that are summed, not averaged, are reached with s = sum / B.
///
/// Relative accuracy of every probability about 1e-11, however rare. Immutable and thread-safe. A call costs 5 to 100
/// us (up to some ms at d < 5 far in the tail); construction is free except for d (B) small, where a table is made
/// once.
class BlockScoreLaw {
public:
    /// Throws InputError unless head_dim >= 2 and block_size >= 1.
    BlockScoreLaw(std::int64_t head_dim, std::int64_t block_size);

    /// log P(X > s); 0 for s <= -1, -inf for s >= 1.
    double log_upper_tail(double s) const;
    /// log P(X <= s).
    double log_lower_tail(double s) const;
    /// log of the density of X at s; -inf outside the support. May be +inf at a singular point (d = 2).
    double log_density(double s) const;
    /// P(X <= s), for tests of samplers.
    double cdf(double s) const;

private:
    double block_size_;
    std::shared_ptr<const AffinitySum> sum_;
};

}  // namespace mobalab::analysis
