#pragma once

#include <cstdint>

#include "analysis/affinity_sum.h"

namespace mobalab::analysis {

/// T_R for smooth densities (smoothness() large enough): inversion of the moment generating function along the vertical
/// line through the saddlepoint. Every tail, however rare, comes with relative accuracy of about 1e-13.
class ContourAffinitySum final : public AffinitySum {
public:
    ContourAffinitySum(std::int64_t head_dim, std::int64_t terms);
    LogLaw at_gaps(double lower_gap, double upper_gap) const override;

private:
    struct OneSided {
        double log_tail;
        double log_density;
    };
    /// log P(T_R > R - gap) and log density there, for gap in (0, R].
    OneSided beyond(double gap) const;

    double d_;
    double terms_;
    double smoothness_;
    double log_norm_;
};

}  // namespace mobalab::analysis
