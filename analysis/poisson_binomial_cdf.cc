#include "analysis/poisson_binomial_cdf.h"

#include <fmt/format.h>

#include <algorithm>

#include "analysis/routing_point.h"

namespace mobalab::analysis {
namespace {

constexpr double negligible = 1e-12;  // of all trials left out together

}  // namespace

std::vector<double> poisson_binomial_cdf(std::span<const double> p, std::int64_t most) {
    if (most < 0) throw InputError(fmt::format("most = {}: must be at least 0; nearest valid value is 0", most));
    std::vector<double> law(static_cast<std::size_t>(most) + 1, 0.0);
    law[0] = 1.0;
    std::size_t reached = 0;  // successes so far are at most these
    double left_out = 0.0;
    for (const double trial : p) {
        if (!(trial >= 0.0 && trial <= 1.0)) {
            throw InputError(
                fmt::format("p = {}: must be between 0 and 1; nearest valid value is {}", trial, trial > 1.0 ? 1 : 0));
        }
        if (left_out + trial < negligible) {
            left_out += trial;
            continue;
        }
        reached = std::min(reached + 1, law.size() - 1);
        for (std::size_t i = reached; i > 0; --i) law[i] += trial * (law[i - 1] - law[i]);
        law[0] -= trial * law[0];
    }
    double sum = 0.0;
    for (double& value : law) value = sum += value;
    return law;
}

}  // namespace mobalab::analysis
