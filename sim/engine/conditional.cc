#include "sim/engine/conditional.h"

#include <algorithm>
#include <array>
#include <boost/math/quadrature/gauss.hpp>
#include <chrono>
#include <cmath>
#include <optional>

#include "analysis/binomial_interval.h"
#include "analysis/normal_law.h"
#include "sim/samplers/sampler.h"
#include "sim/simd/instruction_set.h"
#include "sim/tables/score_curves.h"

namespace mobalab::sim {
namespace {

constexpr std::uint64_t kChunk = 8192;
constexpr std::uint32_t kRun = 1024;

std::optional<StopReason> reason_to_stop(const StopRule& stop, const ConditionalResult& result) {
    if (stop.target_relative_error > 0 && result.sums.relative_error() <= stop.target_relative_error) {
        return StopReason::relative_error;
    }
    if (result.sums.trials >= stop.max_trials) {
        return StopReason::trials;
    }
    if (stop.max_seconds > 0 && result.seconds >= stop.max_seconds) {
        return StopReason::seconds;
    }
    return std::nullopt;
}

}  // namespace

ConditionalSampler::ConditionalSampler(const analysis::RoutingPoint& point, std::uint64_t seed)
    : key_(stream_key(seed, stream_identity(point, Method::conditional))), weights_(miss_weights(point)) {}

double ConditionalSampler::Sums::relative_error() const {
    if (trials < 2) {
        return INFINITY;
    }
    const auto n = static_cast<double>(trials);
    const double m = mean();
    const double variance = std::max(0.0, squared_weight / n - m * m) * n / (n - 1.0);
    return m > 0.0 ? std::sqrt(variance / n) / m : INFINITY;
}

ConditionalSampler::Sums ConditionalSampler::sums(std::uint64_t first_trial, std::uint64_t trials) const {
    const HotLoops& loops = default_loops();
    Sums sums;
    std::array<std::uint64_t, kRun> words;
    const std::uint64_t end = first_trial + trials;
    while (first_trial < end) {
        const std::uint64_t same_high_half = (std::uint64_t{1} << 32U) - (first_trial & 0xffffffffU);
        const std::uint64_t run = std::min({end - first_trial, std::uint64_t{kRun}, same_high_half});
        loops.signal_words(words.data(), {key_, first_trial, static_cast<std::uint32_t>(run), 0});
        for (std::size_t i = 0; i < run; ++i) {
            const double weight = std::max(0.0, octave_value(weights_.table.coefficients.data(), words[i]));
            sums.weight += weight;
            sums.squared_weight += weight * weight;
        }
        sums.trials += run;
        first_trial += run;
    }
    return sums;
}

ConditionalSampler::Moments ConditionalSampler::moments() const {
    double mean = 0.0;
    double square = 0.0;
    const double* p = weights_.table.coefficients.data();
    for (int half = 0; half < 2; ++half) {
        for (int octave = 0; octave < OctaveTable::kOctaves; ++octave) {
            for (int piece = 0; piece < OctaveTable::kPieces; ++piece, p += OctaveTable::kCoefficients) {
                if (octave == 0) {
                    continue;  // a single number
                }
                const double width = std::ldexp(1.0 / OctaveTable::kPieces, octave - 1 - OctaveTable::kOctaves);
                const auto value = [&](double t) {
                    double sum = 0.0;
                    for (int k = OctaveTable::kCoefficients - 1; k >= 0; --k) {
                        sum = sum * t + p[k];
                    }
                    return sum;
                };
                using Gauss = boost::math::quadrature::gauss<double, 8>;
                mean += width * Gauss::integrate(value, -0.5, 0.5);
                square += width * Gauss::integrate([&](double t) { return value(t) * value(t); }, -0.5, 0.5);
            }
        }
    }
    return {mean, square / (mean * mean) - 1.0};
}

double ConditionalSampler::largest_weight() const {
    double largest = 0.0;
    const double* p = weights_.table.coefficients.data();
    const double* const end = p + OctaveTable::kSize;
    for (; p != end; p += OctaveTable::kCoefficients) {
        double sum = 0.0;  // the polynomials' variable is in [-1/2, 1/2]
        for (int k = OctaveTable::kCoefficients - 1; k >= 0; --k) {
            sum = 0.5 * sum + std::abs(p[k]);
        }
        largest = std::max(largest, sum);
    }
    return largest;
}

ConditionalResult simulate_conditional(const analysis::RoutingPoint& point, const Budget& budget,
                                       const std::function<bool()>& go_on) {
    analysis::validate(point);
    check_method(point, Method::conditional);
    if (budget.stop.max_misses > 0) {
        throw analysis::InputError(
            "max_misses: method conditional counts no misses; use target_relative_error, or method threshold");
    }
    const auto start = std::chrono::steady_clock::now();
    const ConditionalSampler sampler(point, budget.seed);
    ConditionalResult result;
    std::optional<StopReason> reason;
    while (!reason) {
        const std::uint64_t left = budget.stop.max_trials - result.sums.trials;
        const ConditionalSampler::Sums chunk = sampler.sums(result.sums.trials, std::min(kChunk, left));
        result.sums.trials += chunk.trials;
        result.sums.weight += chunk.weight;
        result.sums.squared_weight += chunk.squared_weight;
        result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        reason = reason_to_stop(budget.stop, result);
        if (!reason && go_on && !go_on()) {
            reason = StopReason::interrupted;
        }
    }
    result.reason = *reason;
    return result;
}

MeanInterval log_normal_interval(const ConditionalSampler::Sums& sums, double confidence) {
    const double z = analysis::normal_upper_quantile(0.5 * (1.0 - confidence));
    const double mean = sums.mean();
    const double factor = std::exp(z * sums.relative_error());
    return {mean / factor, mean, std::min(1.0, mean * factor)};
}

double trials_for_normal_theory(double confidence) {
    const double z = analysis::normal_upper_quantile(0.5 * (1.0 - confidence));
    return 1000.0 * std::max(1.0, std::pow(0.5 * z, 6));
}

MeanInterval bounded_weight_interval(const ConditionalSampler::Sums& sums, double largest_weight, double confidence) {
    const auto trials = static_cast<double>(sums.trials);
    const double share = std::min(trials, sums.weight / largest_weight);
    const analysis::Interval band = analysis::likelihood_band(share, trials, 2.0 / (1.0 - confidence));
    return {largest_weight * band.low, sums.mean(), std::min(1.0, largest_weight * band.high)};
}

}  // namespace mobalab::sim
