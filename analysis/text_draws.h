#pragma once

#include <boost/random/sobol.hpp>
#include <complex>
#include <cstdint>
#include <vector>

#include "analysis/text_keys.h"

namespace mobalab::analysis {

/// Needles and queries of model text by a Sobol sequence with a fixed digital shift, and numbers of the caller's own:
/// averages over them have far less error than over random ones. The n-th draw is a function of the point and the
/// number of the caller's numbers.
class TextDraws {
public:
    /// `own_numbers`: how many of uniform(), normal() and below() a draw gives. head_dim at most most_drawn_head_dim.
    TextDraws(const RoutingPoint& point, std::size_t own_numbers);

    void next();
    const std::vector<std::complex<double>>& needle() const { return needle_; }  ///< R_(t*-p) x_(t*), [pairs]
    const std::vector<std::complex<double>>& query() const { return query_; }    ///< q before RoPE, [pairs]

    // The caller's own numbers, one after the other.
    double uniform() { return values_[used_++]; }  ///< in (0, 1)
    double normal();                               ///< standard
    std::int64_t below(std::int64_t bound);        ///< in [0, bound)

private:
    TextKeys keys_;
    double mu_;
    double query_mean_;
    boost::random::sobol engine_;
    std::vector<double> values_;
    std::size_t used_ = 0;
    std::vector<std::complex<double>> needle_;
    std::vector<std::complex<double>> noise_;
    std::vector<std::complex<double>> query_;
};

/// Two numbers a coordinate, of the 3667 that the sequence has.
inline constexpr std::int64_t most_drawn_head_dim = 1024;

}  // namespace mobalab::analysis
