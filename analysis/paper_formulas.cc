#include "analysis/paper_formulas.h"

#include <cmath>

#include "analysis/normal_law.h"

namespace mobalab::analysis {

double snr(const RoutingPoint& point) {
    validate(point);
    return point.delta_mu_eff() *
           std::sqrt(static_cast<double>(point.head_dim) / (2.0 * static_cast<double>(point.block_size)));
}

double pairwise_miss(const RoutingPoint& point) {
    return std::exp(log_normal_upper(snr(point)));
}

double reliable_snr_threshold(const RoutingPoint& point) {
    validate(point);
    return normal_upper_quantile(static_cast<double>(point.routed()) / static_cast<double>(point.candidates));
}

}  // namespace mobalab::analysis
