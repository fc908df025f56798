#include "analysis/measured_scores/one_pass_law.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "analysis/routing_point.h"

namespace mobalab::analysis {
namespace {

constexpr int places = 8;    // of a block against the query's own, of a target in its block
constexpr int samples = 16;  // of the trend along a block
constexpr double least_variance = 1e-12;

/// Of `tokens` offsets 1, 2, ..., how many lie in each bin from the first on.
void add_bins(std::int64_t tokens, double* bins) {
    for (int i = 1; i <= offset_bins; ++i) {
        const std::int64_t from = std::int64_t{1} << (i - 1);
        bins[i - 1] = static_cast<double>(std::clamp<std::int64_t>(tokens - (from - 1), 0, from));
    }
}

double dot(std::span<const double> a, std::span<const double> b) {
    double sum = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
}

double quadratic(std::span<const double> w, const std::vector<double>& matrix) {
    double sum = 0.0;
    for (std::size_t i = 0; i < w.size(); ++i) {
        if (w[i] != 0.0) sum += w[i] * dot(w, std::span(matrix).subspan(i * w.size(), w.size()));
    }
    return std::max(sum, 0.0);  // a covariance of incomplete profiles may have a negative direction
}

/// Mean and variance of values that come one by one.
struct Moments {
    double count = 0.0, sum = 0.0, squares = 0.0;
    void add(double value) {
        count += 1.0;
        sum += value;
        squares += value * value;
    }
    double mean() const { return sum / count; }
    double variance() const { return std::max(0.0, squares / count - mean() * mean()); }
};

void require(bool right, const char* what) {
    if (!right) throw InputError(fmt::format("token statistics: {}", what));
}

bool finite(const std::vector<double>& values, std::size_t size) {
    return values.size() == size &&
           std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
}

void check(const TargetPopulation& population) {
    constexpr auto size = static_cast<std::size_t>(profile_size);
    require(population.first_token >= 0.0 && std::isfinite(population.first_token),
            "the share of token 0 must be finite and not negative");
    for (const TargetGroup& group : population.groups) {
        require(group.weight >= 0.0 && std::isfinite(group.weight), "weights must be finite and not negative");
        require(!group.distances.empty() && finite(group.distances, group.distances.size()) &&
                    *std::min_element(group.distances.begin(), group.distances.end()) >= 1.0,
                "distances of targets must be finite and at least 1");
        require(finite(group.profile, size) && finite(group.covariance, size * size),
                "profiles must be finite, with one value an offset bin and side");
    }
}

}  // namespace

OnePassLaw::OnePassLaw(const TokenStatistics& statistics) : statistics_(statistics) {
    constexpr std::size_t first = offset_bins + 1;
    require(!statistics.trend.empty() && finite(statistics.trend, statistics.trend.size()),
            "the trend must be finite and have at least one distance bin");
    require(!statistics.window_variance.empty(), "variances need at least one window length");
    for (const std::vector<double>& variances : statistics.window_variance) {
        require(!variances.empty() && finite(variances, variances.size()), "variances must be finite");
        require(*std::min_element(variances.begin(), variances.end()) >= 0.0, "variances must not be negative");
    }
    require(finite(statistics.first_mean, first) && finite(statistics.first_covariance, first * first),
            "those of the first tokens must be finite, one value an offset bin");
    for (const auto& [block_size, population] : statistics.needles) check(population);
    for (const auto& [block_size, population] : statistics.masses) check(population);
}

/// Over tokens of distances nearest, nearest + 1, ..., nearest + tokens - 1.
double OnePassLaw::mean_trend(double nearest, std::int64_t tokens) const {
    const int steps = static_cast<int>(std::min<std::int64_t>(samples, tokens));
    double sum = 0.0;
    for (int i = 0; i < steps; ++i) {
        sum += trend_at(statistics_.trend, nearest - 0.5 + (i + 0.5) / steps * static_cast<double>(tokens));
    }
    return sum / steps;
}

double OnePassLaw::window_variance(std::int64_t block_size, double distance) const {
    const double octave = std::log2(std::max(distance, 1.0)) - 0.5;
    std::vector<double> logs;
    for (const std::vector<double>& variances : statistics_.window_variance) {
        logs.push_back(std::log(std::max(interpolated(variances, octave), least_variance)));
    }
    return std::exp(interpolated(logs, std::log2(static_cast<double>(block_size))));
}

NormalScore OnePassLaw::first_block(std::int64_t block_size) const {
    std::vector<double> weights(offset_bins + 1, 0.0);
    weights[0] = 1.0;
    add_bins(block_size - 1, weights.data() + 1);
    for (double& weight : weights) weight /= static_cast<double>(block_size);
    return {dot(weights, statistics_.first_mean), std::sqrt(quadratic(weights, statistics_.first_covariance))};
}

std::vector<NormalScore> OnePassLaw::rivals(std::int64_t block_size, std::int64_t candidates) const {
    const auto size = static_cast<double>(block_size);
    std::vector<NormalScore> scores(static_cast<std::size_t>(candidates));
    for (std::int64_t j = 1; j < candidates; ++j) {
        Moments means;  // over where the query stands in its own block
        for (int i = 0; i < places; ++i) {
            means.add(mean_trend((static_cast<double>(j - 1) + (i + 0.5) / places) * size + 0.5, block_size));
        }
        const double variance = window_variance(block_size, static_cast<double>(j) * size);
        scores[static_cast<std::size_t>(j - 1)] = {means.mean(), std::sqrt(variance + means.variance())};
    }
    scores.back() = first_block(block_size);
    return scores;
}

NormalScore OnePassLaw::target(std::int64_t block_size, const TargetGroup& group) const {
    const auto size = static_cast<double>(block_size);
    Moments means;
    double inner = 0.0;
    std::vector<double> weights(static_cast<std::size_t>(profile_size));
    for (const double distance : group.distances) {
        // The block lies before the query: of its B - 1 other tokens, `before` stand before the target, the rest after.
        const double fewest = std::max(0.0, size - distance);
        for (int i = 0; i < places; ++i) {
            const auto before =
                std::min(block_size - 1, static_cast<std::int64_t>(fewest + (i + 0.5) / places * (size - fewest)));
            const double nearest = std::max(1.0, distance - static_cast<double>(block_size - 1 - before));
            weights[0] = 1.0;
            add_bins(block_size - 1 - before, weights.data() + 1);
            add_bins(before, weights.data() + 1 + offset_bins);
            for (double& weight : weights) weight /= size;
            means.add(mean_trend(nearest, block_size) + dot(weights, group.profile));
            inner += quadratic(weights, group.covariance);
        }
    }
    return {means.mean(), std::sqrt(inner / means.count + means.variance())};
}

std::vector<double> OnePassLaw::hits(Target wanted, std::int64_t block_size, std::int64_t candidates,
                                     std::int64_t most_slots, bool keep_first) const {
    if (block_size < 2 || block_size > most_block_size) {
        throw InputError(fmt::format("block_size = {}: must be between 2 and {}; nearest valid value is {}", block_size,
                                     most_block_size, block_size < 2 ? 2 : most_block_size));
    }
    if (candidates < 1) {
        throw InputError(fmt::format("candidates = {}: must be at least 1; nearest valid value is 1", candidates));
    }
    const auto& populations = wanted == Target::needle ? statistics_.needles : statistics_.masses;
    const auto off = [block_size](const auto& entry) {
        return std::abs(std::log(static_cast<double>(entry.first) / static_cast<double>(block_size)));
    };
    const auto nearest = std::min_element(populations.begin(), populations.end(),
                                          [&](const auto& a, const auto& b) { return off(a) < off(b); });
    require(nearest != populations.end(), "there are no targets of this kind");
    const TargetPopulation& population = nearest->second;

    const std::vector<NormalScore> all = rivals(block_size, candidates);
    std::vector<double> sum(static_cast<std::size_t>(std::max<std::int64_t>(0, most_slots)) + 1, 0.0);
    double total = 0.0;
    const auto add = [&](double weight, const NormalScore& score, std::int64_t block_distance) {
        const std::int64_t place = std::clamp<std::int64_t>(block_distance, 1, candidates);
        total += weight;
        if (keep_first && place == candidates) {  // block 0, in the first slot
            for (std::size_t k = 1; k < sum.size(); ++k) sum[k] += weight;
            return;
        }
        std::vector<NormalScore> others = all;
        others.erase(others.begin() + (place - 1));
        if (keep_first) others.pop_back();
        const std::vector<double> hits = hits_among_rivals(score, others, most_slots);
        const std::size_t taken = keep_first ? 1 : 0;
        for (std::size_t k = taken; k < sum.size(); ++k) sum[k] += weight * hits[k - taken];
    };
    for (const TargetGroup& group : population.groups) {
        if (group.weight == 0.0) continue;
        double distance = 0.0;
        for (const double d : group.distances) distance += d / static_cast<double>(group.distances.size());
        add(group.weight, target(block_size, group), std::llround(distance / static_cast<double>(block_size)));
    }
    if (population.first_token > 0.0) add(population.first_token, all.back(), candidates);
    require(total > 0.0, "there are no targets of this kind");
    for (double& value : sum) value /= total;
    return sum;
}

}  // namespace mobalab::analysis
