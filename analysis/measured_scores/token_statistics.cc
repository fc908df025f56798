#include "analysis/measured_scores/token_statistics.h"

#include <algorithm>
#include <cmath>

namespace mobalab::analysis {

double interpolated(const std::vector<double>& values, double at) {
    const double last = static_cast<double>(values.size() - 1);
    const double x = std::clamp(at, 0.0, last);
    const double low = std::min(std::floor(x), std::max(0.0, last - 1.0));
    const auto i = static_cast<std::size_t>(low);
    return values.size() == 1 ? values[0] : values[i] + (x - low) * (values[i + 1] - values[i]);
}

double trend_at(const std::vector<double>& trend, double distance) {
    return interpolated(trend, std::log2(std::max(distance, 1.0)) * trend_bins_per_octave - 0.5);
}

}  // namespace mobalab::analysis
