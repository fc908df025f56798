#include "analysis/hit_probability.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "analysis/affinity_sum.h"
#include "analysis/binomial_tail.h"
#include "analysis/log_space.h"
#include "analysis/normal_law.h"
#include "analysis/top_k.h"

namespace mobalab::analysis {
namespace {

/// No spread in the signal score: every noise block beats it with the same probability.
HitProbability fixed_signal(const RoutingPoint& point, double log_beaten, double log_not_beaten) {
    const LogTails tails = BinomialTail(point.noise_blocks(), point.routed()).at(log_beaten, log_not_beaten);
    return {tails.lower, tails.upper};
}

/// Scores in units of the noise block's standard deviation 1/sqrt(d B): noise N(0, 1), signal N(a, r^2).
HitProbability normal_hit_probability(const RoutingPoint& point) {
    const auto block_size = static_cast<double>(point.block_size);
    const double a = point.delta_mu_eff() * std::sqrt(static_cast<double>(point.head_dim) / block_size);
    const double free_keys = static_cast<double>(point.block_size - point.cluster_size);
    const double r = point.model == Model::gaussian ? 1.0 : std::sqrt(free_keys / block_size);
    if (!(r > 0.0)) return fixed_signal(point, log_normal_upper(a), log_normal_upper(-a));
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const LogHitMiss result = solve_top_k({.noise_blocks = point.noise_blocks(),
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
                                           .signal_sd = r});
    return {result.hit, result.miss};
}

/// Law of an affinity sum moved to the support [low, high].
class SphereScoreLaw final : public ScoreLaw {
public:
    SphereScoreLaw(std::shared_ptr<const AffinitySum> sum, double low, double high)
        : sum_(std::move(sum)), low_(low), high_(high) {}

    LogLaw at(const Score& score) const override {
        return sum_->at_gaps((score.low - low_) + score.above_low, (high_ - score.high) + score.below_high);
    }

    /// Appends the singular points, moved likewise.
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
HitProbability sphere_hit_probability(const RoutingPoint& point) {
    const auto block_size = static_cast<double>(point.block_size);
    const auto head_dim = static_cast<double>(point.head_dim);
    const auto cluster = static_cast<double>(point.cluster_size);
    const double c = point.delta_mu_eff();
    const std::int64_t free_keys = point.block_size - point.cluster_size;
    const std::shared_ptr<const AffinitySum> noise_sum = affinity_sum(point.head_dim, point.block_size);
    if (free_keys == 0) {
        const LogLaw noise = noise_sum->at_gaps(block_size + c, block_size - c);
        return fixed_signal(point, noise.upper, noise.lower);
    }
    const double noise_low = -2.0 * block_size;
    const double signal_low = c - (2.0 * block_size - cluster);
    const double signal_high = c - cluster;
    const auto noise = std::make_shared<SphereScoreLaw>(noise_sum, noise_low, 0.0);
    const auto signal =
        std::make_shared<SphereScoreLaw>(affinity_sum(point.head_dim, free_keys), signal_low, signal_high);
    std::vector<double> knots;
    noise->add_knots(knots);
    signal->add_knots(knots);
    std::sort(knots.begin(), knots.end());
    const LogHitMiss result = solve_top_k({.noise_blocks = point.noise_blocks(),
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
                                           .signal_sd = std::sqrt(static_cast<double>(free_keys) / head_dim)});
    return {result.hit, result.miss};
}

}  // namespace

double HitProbability::hit() const {
    return std::exp(log_hit);
}

double HitProbability::miss() const {
    return std::exp(log_miss);
}

HitProbability exact_hit_probability(const RoutingPoint& point) {
    validate(point);
    if (point.routed() == 0) return {log_zero, 0.0};
    if (point.noise_blocks() < point.routed()) return {0.0, log_zero};
    const bool normal = point.model == Model::gaussian || point.model == Model::gaussian_fixed;
    return normal ? normal_hit_probability(point) : sphere_hit_probability(point);
}

}  // namespace mobalab::analysis
