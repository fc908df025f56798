#include "analysis/cluster_interval.h"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>
#include <optional>

#include "analysis/effective_sample.h"

namespace mobalab::analysis {
namespace {

struct Totals {
    double clusters = 0.0;  ///< those of weight above 0
    double sum = 0.0;
    double weight = 0.0;
    double variance = 0.0;  ///< of the ratio; NaN with one cluster

    double ratio() const { return sum / weight; }
};

Totals totals_of(std::span<const ClusterTotal> clusters) {
    Totals totals;
    for (const ClusterTotal& cluster : clusters) {
        totals.clusters += cluster.weight > 0.0 ? 1.0 : 0.0;
        totals.sum += cluster.sum;
        totals.weight += cluster.weight;
    }
    double squares = 0.0;
    for (const ClusterTotal& cluster : clusters) {
        const double residual = cluster.sum - totals.ratio() * cluster.weight;
        squares += residual * residual;
    }
    totals.variance = totals.clusters / (totals.clusters - 1.0) * squares / (totals.weight * totals.weight);
    return totals;
}

bool is_certain(double share) {
    return share <= 0.0 || share >= 1.0;
}

/// Values outside by rounding are at the ends.
Interval of_trials(const Totals& totals, double trials, double alpha) {
    const double value = std::clamp(totals.ratio(), 0.0, 1.0);
    const Interval interval = clopper_pearson(std::min(trials, value * trials), trials, alpha);
    return {std::min(interval.low, value), value, std::max(interval.high, value)};
}

/// Of a share or mean of [0, 1] where clusters do not tell their spread; nothing: they do.
std::optional<Interval> without_spread(const Totals& totals, double alpha) {
    if (totals.clusters < 2.0) {
        return Interval{0.0, totals.ratio(), 1.0};
    }
    if (is_certain(totals.ratio())) {
        return of_trials(totals, totals.clusters, alpha);
    }
    return std::nullopt;
}

}  // namespace

Interval clustered_share(std::span<const ClusterTotal> clusters, double alpha) {
    const Totals totals = totals_of(clusters);
    if (const auto interval = without_spread(totals, alpha)) {
        return *interval;
    }
    const double p = totals.ratio();
    const double design_effect = std::max(1.0, totals.variance * totals.weight / (p * (1.0 - p)));
    return korn_graubard(totals.sum, totals.weight, design_effect, totals.clusters - 1.0, alpha);
}

Interval clustered_mean(std::span<const ClusterTotal> clusters, double alpha) {
    const Totals totals = totals_of(clusters);
    if (const auto interval = without_spread(totals, alpha)) {
        return *interval;
    }
    const double p = totals.ratio();
    constexpr double most_trials = 1e15;  // clusters that agree to the last digit
    const double trials = std::min(most_trials, p * (1.0 - p) / totals.variance);
    return of_trials(totals, effective_trials(trials, 1.0, totals.clusters - 1.0, alpha), alpha);
}

Interval clustered_ratio(std::span<const ClusterTotal> clusters, double alpha) {
    const Totals totals = totals_of(clusters);
    if (totals.clusters < 2.0) {
        return {0.0, totals.ratio(), std::numeric_limits<double>::infinity()};
    }
    const boost::math::students_t law(totals.clusters - 1.0);
    const double half = boost::math::quantile(boost::math::complement(law, 0.5 * alpha)) * std::sqrt(totals.variance);
    return {std::max(0.0, totals.ratio() - half), totals.ratio(), totals.ratio() + half};
}

}  // namespace mobalab::analysis
