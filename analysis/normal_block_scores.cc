#include "analysis/normal_block_scores.h"

#include <cmath>
#include <limits>
#include <memory>

#include "analysis/normal_law.h"

namespace mobalab::analysis {
namespace {

/// Variance of the sum of `keys` affinities over that of independent ones.
double inflation(std::int64_t keys, double key_correlation) {
    return 1.0 + static_cast<double>(keys - 1) * key_correlation;
}

}  // namespace

double normal_signal_mean(const RoutingPoint& point) {
    return point.delta_mu_eff() *
           std::sqrt(static_cast<double>(point.head_dim) / static_cast<double>(point.block_size)) /
           std::sqrt(inflation(point.block_size, point.key_correlation));
}

double fixed_cluster_sd(const RoutingPoint& point) {
    const std::int64_t free_keys = point.block_size - point.cluster_size;
    const double share = static_cast<double>(free_keys) / static_cast<double>(point.block_size);
    return std::sqrt(
        share * (inflation(free_keys, point.key_correlation) / inflation(point.block_size, point.key_correlation)));
}

TopKProblem normal_problem(std::int64_t noise_blocks, std::int64_t slots, const NormalSignal& signal) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    return {.noise_blocks = noise_blocks,
            .slots = slots,
            .noise = std::make_shared<NormalScoreLaw>(0.0, 1.0),
            .signal = std::make_shared<NormalScoreLaw>(signal.mean, signal.sd),
            .noise_low = -infinity,
            .noise_high = infinity,
            .signal_low = -infinity,
            .signal_high = infinity,
            .knots = {},
            .noise_mean = 0.0,
            .noise_sd = 1.0,
            .signal_mean = signal.mean,
            .signal_sd = signal.sd};
}

}  // namespace mobalab::analysis
