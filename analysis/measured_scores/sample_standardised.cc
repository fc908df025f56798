#include "analysis/measured_scores/sample_standardised.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/math/special_functions/gamma.hpp>
#include <cmath>

#include "analysis/routing_point.h"

namespace mobalab::analysis {
namespace {

void check(double mean, double sd, std::span<const CandidateRows> rows) {
    if (!std::isfinite(mean)) throw InputError(fmt::format("mean = {}: must be finite; for example 0", mean));
    if (!(std::isfinite(sd) && sd >= 0.0)) {
        throw InputError(fmt::format("sd = {}: must be finite and not negative; nearest valid value is 0", sd));
    }
    for (const CandidateRows& row : rows) {
        if (row.candidates < least_standardised_candidates) {
            throw InputError(
                fmt::format("candidates = {}: must be at least {}, with fewer standardised scores have no "
                            "variance; nearest valid value is {}",
                            row.candidates, least_standardised_candidates, least_standardised_candidates));
        }
    }
}

}  // namespace

double mean_inverse_sd(std::int64_t rivals) {
    if (rivals < 3) {
        throw InputError(fmt::format("rivals = {}: must be at least 3; nearest valid value is 3", rivals));
    }
    const auto n = static_cast<double>(rivals);
    // Gamma(x) / Gamma(x + 1/2) without the overflow and cancellation of its parts.
    return std::sqrt(0.5 * n) * boost::math::tgamma_delta_ratio(0.5 * (n - 2.0), 0.5);
}

StandardisedSignal signal_of_sample(double mean, double sd, std::span<const CandidateRows> rows) {
    check(mean, sd, rows);
    const auto over_rows = [&](auto value) {
        return mean_over_rows(rows,
                              [&](std::int64_t candidates) { return value(static_cast<double>(candidates - 1)); });
    };
    const double a = mean / over_rows([](double n) { return mean_inverse_sd(static_cast<std::int64_t>(n)); });
    const double of_rivals = over_rows([](double n) { return 1.0 / (n - 3.0); });
    const double scale = over_rows([](double n) { return n / (n - 3.0); });
    const double square = (mean * mean + sd * sd - of_rivals) / scale;
    return {.a = a, .r = std::sqrt(std::max(0.0, square - a * a))};
}

}  // namespace mobalab::analysis
