#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "analysis/affinity_sum.h"

namespace mobalab::analysis {

/// Log tail and log density: values of both, or Chebyshev coefficients of both.
using TablePair = std::array<double, 2>;

/// A quadrature node between the end of the key's range and the singular point of the rest, by its share of the
/// distance from either.
struct ConvolutionNode {
    double key_share;
    double rest_share;
    double weight;
};

/// T_1: (1 + t) / 2 is Beta((d-1)/2, (d-1)/2).
class SingleAffinity final : public AffinitySum {
public:
    explicit SingleAffinity(std::int64_t head_dim);
    LogLaw at_gaps(double lower_gap, double upper_gap) const override;
    std::vector<double> knots() const override;

private:
    double log_tail(double gap) const;

    double half_;  ///< (d - 1) / 2
    double log_beta_;
};

/// T_R for the small (d, R) whose density is not smooth: T_R = T_(R-1) + t by numerical convolution, tabulated between
/// the singular points R - 2j. Everything summed is positive, so the tails keep relative accuracy (about 1e-12).
class TabulatedAffinitySum final : public AffinitySum {
public:
    /// `fewer` is the law of T_(terms - 1); terms >= 2.
    TabulatedAffinitySum(std::int64_t head_dim, std::int64_t terms, const AffinitySum& fewer);
    LogLaw at_gaps(double lower_gap, double upper_gap) const override;
    std::vector<double> knots() const override;

private:
    /// Over upper gaps in [2j, 2j + 2]; in the first piece less the leading power of the gap.
    using Piece = std::vector<TablePair>;

    Piece tabulate(std::int64_t index, const AffinitySum& fewer) const;
    TablePair convolve(double below_piece, double low_part, double high_part, const AffinitySum& fewer) const;
    TablePair beyond(double gap) const;

    double terms_;
    double smoothness_;
    double key_power_;     ///< (d - 3) / 2
    double log_key_norm_;  ///< of the density of one affinity
    std::vector<ConvolutionNode> nodes_;
    std::vector<Piece> pieces_;
};

}  // namespace mobalab::analysis
