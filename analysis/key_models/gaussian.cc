#include "analysis/normal_block_scores.h"

namespace mobalab::analysis {
namespace {

NormalSignal signal(const RoutingPoint& point) {
    return {normal_signal_mean(point), 1.0};
}

constexpr BlockScoreLaws laws = {
    .trouble = [](const RoutingPoint&) { return std::string(); },
    .problem =
        [](const RoutingPoint& point) { return normal_problem(point.noise_blocks(), point.routed(), signal(point)); },
    .signal = signal,
};

}  // namespace

/// The paper's section 3: every block score is normal with variance 1/(d B), the signal block as noisy as the others,
/// however large its cluster.
extern const KeyModelDefinition gaussian_model;
constexpr KeyModelDefinition gaussian_model = {.name = "gaussian",
                                               .rows = Rows::block_scores,
                                               .takes_mu_noise = true,
                                               .takes_key_correlation = true,
                                               .monotone_in_head_dim = true,
                                               .laws = &laws};

}  // namespace mobalab::analysis
