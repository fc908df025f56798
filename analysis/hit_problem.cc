#include "analysis/hit_problem.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "analysis/affinity_sum.h"
#include "analysis/binomial_tail.h"
#include "analysis/normal_law.h"

namespace mobalab::analysis {
namespace {

bool is_normal(Model model) {
    return model == Model::gaussian || model == Model::gaussian_fixed;
}

/// Variance of the sum of `keys` affinities over that of independent ones.
double inflation(std::int64_t keys, double key_correlation) {
    return 1.0 + static_cast<double>(keys - 1) * key_correlation;
}

/// Scores in units of the noise block's standard deviation: noise N(0, 1), signal N(a, r^2).
TopKProblem normal_problem(const RoutingPoint& point) {
    const auto [a, r] = normal_signal(point);
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

/// Law of the h-th largest of R independent scores.
class OrderStatisticLaw final : public ScoreLaw {
public:
    OrderStatisticLaw(std::shared_ptr<const ScoreLaw> one, std::int64_t count, std::int64_t rank)
        : one_(std::move(one)),
          tails_(count, rank),
          above_(static_cast<double>(rank - 1)),
          below_(static_cast<double>(count - rank)),
          log_constant_(log_binomial_coefficient(count, rank) + std::log(static_cast<double>(rank))) {}

    LogLaw at(const Score& score) const override {
        const LogLaw law = one_->at(score);
        const LogTails tails = tails_.at(law.upper, law.lower);
        // A factor to the power 0 is 1 even where its logarithm is -inf.
        const double above = above_ > 0.0 ? above_ * law.upper : 0.0;
        const double below = below_ > 0.0 ? below_ * law.lower : 0.0;
        return {tails.upper, tails.lower, log_constant_ + above + below + law.density};
    }

private:
    std::shared_ptr<const ScoreLaw> one_;
    BinomialTail tails_;
    double above_;
    double below_;
    double log_constant_;  ///< of R! / ((h - 1)! (R - h)!)
};

/// The problem of one needle turned into that of the h-th best of R.
TopKProblem with_needles(TopKProblem problem, std::int64_t needles, std::int64_t found) {
    problem.slots -= found - 1;
    if (needles == 1) return problem;
    problem.signal = std::make_shared<OrderStatisticLaw>(problem.signal, needles, found);
    // Rough centre and spread: Blom's plotting position, and the asymptotic standard deviation of a quantile.
    const double p = (static_cast<double>(found) - 0.375) / (static_cast<double>(needles) + 0.25);
    const double z = normal_upper_quantile(p);
    problem.signal_mean += problem.signal_sd * z;
    problem.signal_sd *=
        std::sqrt(p * (1.0 - p) / (static_cast<double>(needles) + 2.0)) * std::exp(-log_normal_density(z));
    return problem;
}

}  // namespace

bool has_exact_probability(const RoutingPoint& point) {
    return is_normal(point.model) || (!(point.key_correlation > 0.0) && point.key_conv == 0);
}

NormalSignal normal_signal(const RoutingPoint& point) {
    const double noise = inflation(point.block_size, point.key_correlation);
    const double mean = point.delta_mu_eff() *
                        std::sqrt(static_cast<double>(point.head_dim) / static_cast<double>(point.block_size)) /
                        std::sqrt(noise);
    if (point.model == Model::gaussian) return {mean, 1.0};
    const std::int64_t free_keys = point.block_size - point.cluster_size;
    const double share = static_cast<double>(free_keys) / static_cast<double>(point.block_size);
    return {mean, std::sqrt(share * (inflation(free_keys, point.key_correlation) / noise))};
}

TopKProblem top_k_problem(const RoutingPoint& point, std::int64_t found) {
    return with_needles(is_normal(point.model) ? normal_problem(point) : sphere_problem(point), point.needles, found);
}

bool signal_is_fixed(const RoutingPoint& point) {
    return point.model != Model::gaussian && point.cluster_size == point.block_size;
}

LogLaw noise_at_fixed_signal(const RoutingPoint& point) {
    if (is_normal(point.model)) {
        const double a = normal_signal(point).mean;
        return {log_normal_upper(a), log_normal_upper(-a), log_normal_density(a)};
    }
    const auto block_size = static_cast<double>(point.block_size);
    const double c = point.delta_mu_eff();
    return affinity_sum(point.head_dim, point.block_size)->at_gaps(block_size + c, block_size - c);
}

}  // namespace mobalab::analysis
