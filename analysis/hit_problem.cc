#include "analysis/hit_problem.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "analysis/affinity_sum.h"
#include "analysis/normal_law.h"

namespace mobalab::analysis {
namespace {

bool is_normal(Model model) {
    return model == Model::gaussian || model == Model::gaussian_fixed;
}

/// Mean of the signal score in units of the noise block's standard deviation 1 / sqrt(d B).
double standardised_signal(const RoutingPoint& point) {
    return point.delta_mu_eff() *
           std::sqrt(static_cast<double>(point.head_dim) / static_cast<double>(point.block_size));
}

/// Scores in units of the noise block's standard deviation: noise N(0, 1), signal N(a, r^2).
TopKProblem normal_problem(const RoutingPoint& point) {
    const double a = standardised_signal(point);
    const double free_share =
        static_cast<double>(point.block_size - point.cluster_size) / static_cast<double>(point.block_size);
    const double r = point.model == Model::gaussian ? 1.0 : std::sqrt(free_share);
    constexpr double infinity = std::numeric_limits<double>::infinity();
    return {.noise_blocks = point.noise_blocks(),
            .slots = point.routed(),
            .noise = std::make_shared<NormalScoreLaw>(0.0, 1.0),
            .signal = std::make_shared<NormalScoreLaw>(a, r),
            .noise_low = -infinity,
            .noise_high = infinity,
            .signal_low = -infinity,
            .signal_high = infinity,
            .knots = {},
            .noise_mean = 0.0,
            .noise_sd = 1.0,
            .signal_mean = a,
            .signal_sd = r};
}

/// Law of an affinity sum moved to the support [low, high].
class SphereScoreLaw final : public ScoreLaw {
public:
    SphereScoreLaw(std::shared_ptr<const AffinitySum> sum, double low, double high)
        : sum_(std::move(sum)), low_(low), high_(high) {}

    LogLaw at(const Score& score) const override {
        return sum_->at_gaps((score.low - low_) + score.above_low, (high_ - score.high) + score.below_high);
    }

    /// Appends the rough points, moved likewise.
    void add_knots(std::vector<double>& knots) const {
        const double centre = 0.5 * (low_ + high_);
        for (const double knot : sum_->knots()) knots.push_back(centre + knot);
    }

private:
    std::shared_ptr<const AffinitySum> sum_;
    double low_;
    double high_;
};

/// Scores are sums of affinities over a block less B, so that the largest possible noise score is 0: noise T_B - B,
/// signal c + T_(B-m) - B with c the sum of the signal affinities.
TopKProblem sphere_problem(const RoutingPoint& point) {
    const auto block_size = static_cast<double>(point.block_size);
    const auto head_dim = static_cast<double>(point.head_dim);
    const auto cluster = static_cast<double>(point.cluster_size);
    const double c = point.delta_mu_eff();
    const std::int64_t free_keys = point.block_size - point.cluster_size;
    const double noise_low = -2.0 * block_size;
    const double signal_low = c - (2.0 * block_size - cluster);
    const double signal_high = c - cluster;
    const auto noise = std::make_shared<SphereScoreLaw>(affinity_sum(point.head_dim, point.block_size), noise_low, 0.0);
    const auto signal =
        std::make_shared<SphereScoreLaw>(affinity_sum(point.head_dim, free_keys), signal_low, signal_high);
    std::vector<double> knots;
    noise->add_knots(knots);
    signal->add_knots(knots);
    std::sort(knots.begin(), knots.end());
    return {.noise_blocks = point.noise_blocks(),
            .slots = point.routed(),
            .noise = noise,
            .signal = signal,
            .noise_low = noise_low,
            .noise_high = 0.0,
            .signal_low = signal_low,
            .signal_high = signal_high,
            .knots = knots,
            .noise_mean = -block_size,
            .noise_sd = std::sqrt(block_size / head_dim),
            .signal_mean = c - block_size,
            .signal_sd = std::sqrt(static_cast<double>(free_keys) / head_dim)};
}

}  // namespace

TopKProblem top_k_problem(const RoutingPoint& point) {
    return is_normal(point.model) ? normal_problem(point) : sphere_problem(point);
}

bool signal_is_fixed(const RoutingPoint& point) {
    return point.model != Model::gaussian && point.cluster_size == point.block_size;
}

LogLaw noise_at_fixed_signal(const RoutingPoint& point) {
    if (is_normal(point.model)) {
        const double a = standardised_signal(point);
        return {log_normal_upper(a), log_normal_upper(-a), log_normal_density(a)};
    }
    const auto block_size = static_cast<double>(point.block_size);
    const double c = point.delta_mu_eff();
    return affinity_sum(point.head_dim, point.block_size)->at_gaps(block_size + c, block_size - c);
}

}  // namespace mobalab::analysis
