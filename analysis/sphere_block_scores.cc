#include "analysis/sphere_block_scores.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "analysis/affinity_sum.h"
#include "analysis/normal_block_scores.h"

namespace mobalab::analysis {
namespace {

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

std::string trouble(const RoutingPoint& point) {
    if (!(point.key_correlation > 0.0) && point.key_conv == 0) return "";
    return fmt::format(
        "key_correlation = {}, key_conv = {}: model {} has no exact probability with keys that are not independent; "
        "nearest valid values are 0; or use command simulate, or model gaussian-fixed, exact for correlated normal "
        "keys",
        point.key_correlation, point.key_conv, to_string(point.model));
}

/// Less B, so that the largest possible noise score is 0 and tails near it keep their digits.
TopKProblem problem(const RoutingPoint& point) {
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

/// At the signal c - B of a block that is all cluster.
LogLaw noise_at_fixed_signal(const RoutingPoint& point) {
    const auto block_size = static_cast<double>(point.block_size);
    const double c = point.delta_mu_eff();
    return affinity_sum(point.head_dim, point.block_size)->at_gaps(block_size + c, block_size - c);
}

}  // namespace

constexpr BlockScoreLaws sphere_block_score_laws = {
    .trouble = trouble,
    .problem = problem,
    .signal =
        [](const RoutingPoint& point) {
            return NormalSignal{normal_signal_mean(point), fixed_cluster_sd(point)};
        },
    .noise_at_fixed_signal = noise_at_fixed_signal,
};

}  // namespace mobalab::analysis
