#include "analysis/hit_probability.h"

#include <cmath>
#include <limits>
#include <memory>
#include <stdexcept>

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
    if (point.model == Model::sphere || point.model == Model::vector) {
        throw std::logic_error("exact_hit_probability: the sphere model comes with the block score law");
    }
    return normal_hit_probability(point);
}

}  // namespace mobalab::analysis
