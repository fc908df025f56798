#include "analysis/measured_scores/several_heads.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "analysis/routing_point.h"

namespace mobalab::analysis {
namespace {

void check_share(const char* name, double value) {
    if (!(value >= 0.0 && value <= 1.0)) {
        throw InputError(fmt::format("{} = {}: must be between 0 and 1; nearest valid value is {}", name, value,
                                     value > 1.0 ? 1 : 0));
    }
}

double any_hit_given(std::span<const StandardisedSignal> heads, double correlation, double factor,
                     std::int64_t candidates, std::int64_t slots) {
    std::vector<double> hits(heads.size());
    std::ranges::transform(heads, hits.begin(), [&](const StandardisedSignal& head) {
        return hit_of_standardised(
            {.a = head.a + head.r * std::sqrt(correlation) * factor, .r = head.r * std::sqrt(1.0 - correlation)},
            candidates, slots);
    });
    return any_hit_of_independent(hits);
}

}  // namespace

double any_hit_of_independent(std::span<const double> hits) {
    double none = 1.0;
    for (const double hit : hits) {
        check_share("hit", hit);
        none *= 1.0 - hit;
    }
    return 1.0 - none;
}

double any_hit_of_standardised(std::span<const StandardisedSignal> heads, double correlation, std::int64_t candidates,
                               std::int64_t slots) {
    check_share("correlation", correlation);
    if (correlation == 0.0) {
        return any_hit_given(heads, 0.0, 0.0, candidates, slots);
    }
    // The trapezoidal rule converges faster than any power of the step for a normal weight times a smooth function.
    constexpr double step = 0.25;
    constexpr int half = 26;  // to 6.5: what lies beyond weighs 1e-10
    double sum = 0.0;
    double weight = 0.0;
    for (int i = -half; i <= half; ++i) {
        const double factor = i * step;
        const double density = std::exp(-0.5 * factor * factor);
        sum += density * any_hit_given(heads, correlation, factor, candidates, slots);
        weight += density;
    }
    return sum / weight;
}

double accuracy_of_any_hit(double own_share, double any_hit) {
    check_share("own_share", own_share);
    check_share("any_hit", any_hit);
    return own_share + (1.0 - own_share) * any_hit;
}

}  // namespace mobalab::analysis
