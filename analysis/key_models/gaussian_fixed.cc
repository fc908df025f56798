#include "analysis/normal_block_scores.h"
#include "analysis/normal_law.h"

namespace mobalab::analysis {
namespace {

NormalSignal signal(const RoutingPoint& point) {
    return {normal_signal_mean(point), fixed_cluster_sd(point)};
}

LogLaw noise_at_fixed_signal(const RoutingPoint& point) {
    const double a = normal_signal_mean(point);
    return {log_normal_upper(a), log_normal_upper(-a), log_normal_density(a)};
}

constexpr BlockScoreLaws laws = {
    .trouble = [](const RoutingPoint&) { return std::string(); },
    .problem =
        [](const RoutingPoint& point) { return normal_problem(point.noise_blocks(), point.routed(), signal(point)); },
    .signal = signal,
    .noise_at_fixed_signal = noise_at_fixed_signal,
};

}  // namespace

/// Normal block scores as of normal keys and a unit query, the affinities of the cluster fixed: the signal block's
/// variance is (B - m) / (d B^2).
extern const KeyModelDefinition gaussian_fixed_model;
constexpr KeyModelDefinition gaussian_fixed_model = {.name = "gaussian-fixed",
                                                     .rows = Rows::block_scores,
                                                     .takes_mu_noise = true,
                                                     .takes_key_correlation = true,
                                                     .monotone_in_head_dim = true,
                                                     .laws = &laws};

}  // namespace mobalab::analysis
