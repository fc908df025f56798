#include "analysis/paper_formulas.h"

#include <cmath>

#include "analysis/normal_law.h"

namespace mobalab::analysis {
namespace {

bool is_of_mean(const RoutingPoint& point) {
    return point.scorer.kind == ScorerKind::mean;
}

}  // namespace

double snr(const RoutingPoint& point) {
    validate(point);
    if (!is_of_mean(point)) return std::nan("");
    return point.delta_mu_eff() *
           std::sqrt(static_cast<double>(point.head_dim) / (2.0 * static_cast<double>(point.block_size)));
}

double pairwise_miss(const RoutingPoint& point) {
    const double ratio = snr(point);
    return std::isnan(ratio) ? ratio : std::exp(log_normal_upper(ratio));
}

double reliable_snr_threshold(const RoutingPoint& point) {
    validate(point);
    if (!is_of_mean(point)) return std::nan("");
    return normal_upper_quantile(static_cast<double>(point.routed()) / static_cast<double>(point.candidates));
}

}  // namespace mobalab::analysis
