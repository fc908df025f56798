#pragma once

#include <span>
#include <vector>

#include "analysis/measured_scores/token_statistics.h"

namespace mobalab::experiments {

/// A target that was seen.
struct TargetSample {
    double weight;
    double distance;
    std::vector<double> profile;  ///< analysis::TargetGroup's; NaN: outside the text before the query
};

/// Mean and covariance of vectors with gaps (NaN): each entry over the vectors that have both of its values; 0 where
/// none has.
struct ProfileMoments {
    std::vector<double> mean;
    std::vector<double> covariance;
};
ProfileMoments moments_of(std::span<const std::vector<double>> vectors, std::span<const double> weights);

/// Targets of one kind, to be put into groups of half an octave of distance. A group of fewer than 12 targets takes the
/// profile of them all.
class TargetSamples {
public:
    void add(TargetSample sample) { samples_.push_back(std::move(sample)); }
    /// Of one row; the others' weights are those of a row too, so that the shares of a row add up to one.
    void add_first_token(double share) { first_token_ += share; }
    analysis::TargetPopulation population() const;

private:
    std::vector<TargetSample> samples_;
    double first_token_ = 0.0;
};

}  // namespace mobalab::experiments
