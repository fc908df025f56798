#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "analysis/score_law.h"

namespace mobalab::analysis {

/// Law of T_R, the sum of R independent affinities t = q.k of a unit query with unit keys uniform on the sphere
/// S^(d-1): density of t proportional to (1 - t^2)^((d-3)/2). Support [-R, R], symmetric. Immutable, thread-safe.
class AffinitySum {
public:
    virtual ~AffinitySum() = default;

    /// At x with x + R = lower_gap and R - x = upper_gap; the two are given apart so that the smaller one keeps its
    /// relative precision. A gap <= 0 is at or beyond that end.
    virtual LogLaw at_gaps(double lower_gap, double upper_gap) const = 0;

    /// Points where the density is not smooth enough to integrate across, the ends included, ascending; empty for most
    /// (d, R).
    virtual std::vector<double> knots() const { return {}; }
};

/// The density of T_R behaves like gap^(smoothness - 1) at the ends and has the same kind of singularity at the
/// interior points R - 2j: R (d - 1) / 2.
double smoothness(std::int64_t head_dim, std::int64_t terms);

/// d >= 2, R >= 1. Chooses the method: contour integral where the density is smooth, else the beta law for one key and
/// repeated convolution for more (those few tables are computed once and kept).
std::shared_ptr<const AffinitySum> affinity_sum(std::int64_t head_dim, std::int64_t terms);

}  // namespace mobalab::analysis
