#pragma once

#include <cstdint>
#include <map>
#include <vector>

namespace mobalab::analysis {

// What one pass over the tokens of a head keeps, from which block scores of any block size follow: sums of tokens are
// linear, so means and covariances of tokens give means and variances of blocks. x(t) below is q . k of the key at
// position t, standardised within its query: less the mean over tokens 1 ... own position - 1, over their standard
// deviation (both without token 0). The distance of a key is the query's position less its own, at least 1.

/// Distance bins of the trend: bin b holds distances from 2^(b/4) to below 2^((b+1)/4).
inline constexpr int trend_bins_per_octave = 4;

/// Offsets from a token in bins that double: bin 0 is offset 0, bin i >= 1 offsets 2^(i-1) ... 2^i - 1; reach of the
/// last bin is 2^offset_bins - 1, so blocks may have up to 2^offset_bins tokens.
inline constexpr int offset_bins = 11;
inline constexpr std::int64_t most_block_size = std::int64_t{1} << offset_bins;

/// Targets at similar distances.
struct TargetGroup {
    double weight = 0.0;            ///< share of the population
    std::vector<double> distances;  ///< each of equal weight, >= 1
    /// Mean residuals x - trend around the target: [0] of the target, [i] of offsets in bin i after it (towards the
    /// query), [offset_bins + i] before it; and the covariance of these, row by row.
    std::vector<double> profile = {};
    std::vector<double> covariance = {};
};

/// Tokens looked for: the needle of each row, or tokens drawn in proportion to their attention mass.
struct TargetPopulation {
    double first_token = 0.0;  ///< share of token 0, which no group holds
    std::vector<TargetGroup> groups = {};
};

struct TokenStatistics {
    std::vector<double> trend;  ///< [bin]: mean of x at these distances; no bin: no statistics
    /// [i][o]: variance of the mean of x - trend over 2^i neighbours whose middle has distance 2^o to 2^(o+1); the last
    /// known i and o hold beyond.
    std::vector<std::vector<double>> window_variance;
    /// The beginning of the text: [0] of token 0, [i] of tokens in offset bin i from it; mean and covariance over rows
    /// of x (not of x - trend).
    std::vector<double> first_mean;
    std::vector<double> first_covariance;
    /// By the block size whose own block (and, of needles, two latest blocks) the targets lie before.
    std::map<std::int64_t, TargetPopulation> needles;
    std::map<std::int64_t, TargetPopulation> masses;
};

/// Lines between values[0], values[1], ...; the ends hold beyond. `values` is not empty.
double interpolated(const std::vector<double>& values, double at);

/// The trend at a distance: lines between the middles of bins, over log2(distance); beyond the first and the last
/// middle their values. `trend` is not empty.
double trend_at(const std::vector<double>& trend, double distance);

/// Number of values of a profile, 1 + 2 offset_bins.
inline constexpr int profile_size = 1 + 2 * offset_bins;

}  // namespace mobalab::analysis
