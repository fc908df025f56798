#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "analysis/hit_probability.h"
#include "analysis/routing_point.h"

namespace mobalab::analysis {

/// The exact hit probability of one point at *every* number of candidates, as a probe needs it (a causal sequence has
/// queries with 1, 2, ... candidates).
///
/// With c = routed + s candidates a miss is impossible for s <= 0; s up to exact_steps is the exact formula; beyond,
/// the log-odds are interpolated as a polynomial of degree 9 in log s through exact values at s = exact_steps *
/// 2^(j/2). The probability is smooth there (c enters as the parameter of a beta law): the error of miss and hit is
/// below 1e-7 of the smaller one (tested), far below what any number of probes resolves; below 1e-5 where nearly every
/// key of the signal block belongs to the cluster. A signal score that is fixed, or may be (scorer submean), has sharp
/// bends in log s: there, and for every scorer but mean, a polynomial of degree 7 must agree, and where it does not the
/// exact formula answers. The nodes do not depend on who asks, so values do not depend on the grid. Thread-safe.
class MissCurve {
public:
    static constexpr std::int64_t exact_steps = 32;

    /// `point.candidates` and `point.seq_len` are ignored.
    explicit MissCurve(const RoutingPoint& point);

    HitProbability at(std::int64_t candidates) const;

private:
    using Memory = std::unordered_map<std::int64_t, HitProbability>;

    template <typename Compute>
    HitProbability remembered(Memory& memory, std::int64_t candidates, Compute compute) const;
    HitProbability exact(std::int64_t candidates) const;
    HitProbability interpolated(std::int64_t candidates) const;
    double log_odds_of_node(std::int64_t node) const;

    RoutingPoint point_;
    bool checked_;  ///< whether a second polynomial must agree
    mutable std::mutex mutex_;
    mutable Memory exact_;
    mutable Memory interpolated_;
};

/// Curves by point, shared by all points that differ only in candidates. Thread-safe.
class MissCurves {
public:
    const MissCurve& of(RoutingPoint point);

private:
    std::mutex mutex_;
    std::map<std::string, std::unique_ptr<MissCurve>> curves_;
};

}  // namespace mobalab::analysis
