#pragma once

#include <cstdint>

#include "analysis/binomial_interval.h"
#include "analysis/centroid_rounding.h"
#include "analysis/routing_point.h"

namespace mobalab::experiments {

inline constexpr int rounding_key_sets = 16;

/// Throws InputError where the keys of a key set would be too many for memory: more than 2^31 elements.
void require_rounding_fits(const analysis::RoutingPoint& point);

/// Share of rows that the CPU kernel gives another selection with centroids kept in the format of 16-bit keys than with
/// centroids kept in fp32: what analysis::changed_rows() expects, of the same rows (all of a sequence where the point
/// has seq_len, else those with its candidates). Normal keys of spread 1 around a mean of their own in each of
/// rounding_key_sets key sets; the interval takes these for clusters (analysis::clustered_share). A result depends on
/// the seed, the point, the mean and the format alone. Throws InputError where the
/// kernel refuses the point, or it is too large.
analysis::Interval measure_rounding(const analysis::RoutingPoint& point, double shared_mean,
                                    analysis::CentroidFormat format, std::uint64_t seed, int threads,
                                    double confidence);

}  // namespace mobalab::experiments
