#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <span>
#include <string>
#include <vector>

/// Helpers of the statistical tests of sim/. Every one of these tests fails by chance with probability at most 1e-9.
namespace mobalab::sim::testing {

inline constexpr double kFalseAlarm = 1e-9;

/// A z-score beyond this has two-sided probability 1e-9.
inline constexpr double kMaxZ = 6.109;

/// Sanitizers slow the samplers tens of times: there, samples are this many times smaller (and detectable biases
/// sqrt(kSlower) times larger).
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr std::uint64_t kSlower = 16;
#else
inline constexpr std::uint64_t kSlower = 1;
#endif

/// The seed of this run of the tests: MOBALAB_TEST_SEED, or a fixed one. Printed, so that a failure can be repeated.
inline std::uint64_t test_seed() {
    const char* text = std::getenv("MOBALAB_TEST_SEED");
    const std::uint64_t seed = text != nullptr ? std::stoull(text) : 20240607;
    std::cout << "[     seed ] MOBALAB_TEST_SEED=" << seed << '\n';
    return seed;
}

/// Largest distance of an empirical distribution from the exact one that chance allows: by the inequality of Dvoretzky,
/// Kiefer, Wolfowitz (Massart 1990) P(sup |F_n - F| > e) <= 2 exp(-2 n e^2), for any n.
inline double dkw_bound(std::size_t samples) {
    return std::sqrt(std::log(2.0 / kFalseAlarm) / (2.0 * static_cast<double>(samples)));
}

/// sup |F_n - F| over the inner edges of `bins` equal bins of [low, high]; a lower bound of the whole supremum, so that
/// dkw_bound() still holds. Any NaN among the samples gives NaN.
template <class T>
double distance_from(std::span<const T> samples, double low, double high, const std::function<double(double)>& cdf) {
    constexpr std::size_t kBins = 4096;
    const double scale = static_cast<double>(kBins) / (high - low);
    std::vector<std::uint64_t> counts(kBins);
    for (const T sample : samples) {
        const double at = (static_cast<double>(sample) - low) * scale;
        if (std::isnan(at)) {
            return NAN;
        }
        ++counts[static_cast<std::size_t>(std::fmin(std::fmax(at, 0.0), static_cast<double>(kBins - 1)))];
    }
    double distance = 0.0;
    std::uint64_t below = 0;
    for (std::size_t bin = 0; bin + 1 < kBins; ++bin) {
        below += counts[bin];
        const double edge = low + static_cast<double>(bin + 1) / scale;
        distance =
            std::fmax(distance, std::abs(static_cast<double>(below) / static_cast<double>(samples.size()) - cdf(edge)));
    }
    return distance;
}

/// Mean of f over the samples, in double.
template <class T, class F>
double mean_of(std::span<const T> samples, F f) {
    double sum = 0.0;
    for (const T sample : samples) {
        sum += f(static_cast<double>(sample));
    }
    return sum / static_cast<double>(samples.size());
}

/// Hash of the bytes: golden values of it pin the bits on every machine.
template <class T>
std::uint64_t hash_of(std::span<const T> values) {
    std::uint64_t hash = 0xcbf29ce484222325U;
    for (const std::byte byte : std::as_bytes(values)) {
        hash = (hash ^ static_cast<std::uint64_t>(byte)) * 0x100000001b3U;
    }
    return hash;
}

}  // namespace mobalab::sim::testing
