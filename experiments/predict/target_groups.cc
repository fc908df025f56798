#include "experiments/predict/target_groups.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace mobalab::experiments {
namespace {

constexpr double groups_per_octave = 2.0;
constexpr std::size_t fewest_of_a_group = 12;
constexpr int distances_of_a_group = 4;
constexpr double negligible_weight = 1e-5;

/// Distances at evenly spread shares of the weight.
std::vector<double> spread_distances(std::vector<const TargetSample*> samples, double weight) {
    std::sort(samples.begin(), samples.end(),
              [](const TargetSample* a, const TargetSample* b) { return a->distance < b->distance; });
    std::vector<double> distances;
    double sum = 0.0;
    for (const TargetSample* sample : samples) {
        sum += sample->weight;
        while (static_cast<double>(distances.size()) + 0.5 <= sum / weight * distances_of_a_group &&
               distances.size() < distances_of_a_group) {
            distances.push_back(sample->distance);
        }
    }
    if (distances.empty()) distances.push_back(samples.back()->distance);
    return distances;
}

ProfileMoments moments_of_samples(const std::vector<const TargetSample*>& samples) {
    std::vector<std::vector<double>> profiles;
    std::vector<double> weights;
    for (const TargetSample* sample : samples) {
        profiles.push_back(sample->profile);
        weights.push_back(sample->weight);
    }
    return moments_of(profiles, weights);
}

}  // namespace

ProfileMoments moments_of(std::span<const std::vector<double>> vectors, std::span<const double> weights) {
    const std::size_t size = vectors.empty() ? 0 : vectors[0].size();
    std::vector<double> total(size, 0.0);
    ProfileMoments moments{std::vector<double>(size, 0.0), std::vector<double>(size * size, 0.0)};
    for (std::size_t v = 0; v < vectors.size(); ++v) {
        for (std::size_t i = 0; i < size; ++i) {
            if (std::isnan(vectors[v][i])) continue;
            total[i] += weights[v];
            moments.mean[i] += weights[v] * vectors[v][i];
        }
    }
    for (std::size_t i = 0; i < size; ++i) moments.mean[i] = total[i] > 0.0 ? moments.mean[i] / total[i] : 0.0;
    std::vector<double> both(size * size, 0.0);
    for (std::size_t v = 0; v < vectors.size(); ++v) {
        for (std::size_t i = 0; i < size; ++i) {
            if (std::isnan(vectors[v][i])) continue;
            const double off = weights[v] * (vectors[v][i] - moments.mean[i]);
            for (std::size_t j = 0; j < size; ++j) {
                if (std::isnan(vectors[v][j])) continue;
                both[i * size + j] += weights[v];
                moments.covariance[i * size + j] += off * (vectors[v][j] - moments.mean[j]);
            }
        }
    }
    for (std::size_t i = 0; i < both.size(); ++i) {
        moments.covariance[i] = both[i] > 0.0 ? moments.covariance[i] / both[i] : 0.0;
    }
    return moments;
}

analysis::TargetPopulation TargetSamples::population() const {
    std::map<int, std::vector<const TargetSample*>> groups;
    std::vector<const TargetSample*> all;
    double whole = first_token_;
    for (const TargetSample& sample : samples_) {
        if (!(sample.weight > 0.0)) continue;
        groups[static_cast<int>(std::floor(std::log2(sample.distance) * groups_per_octave))].push_back(&sample);
        all.push_back(&sample);
        whole += sample.weight;
    }
    analysis::TargetPopulation population;
    if (!(whole > 0.0)) return population;
    population.first_token = first_token_ / whole;
    const ProfileMoments pooled = moments_of_samples(all);
    for (const auto& [number, samples] : groups) {
        double weight = 0.0;
        for (const TargetSample* sample : samples) weight += sample->weight;
        if (weight < negligible_weight * whole) continue;
        const ProfileMoments moments = samples.size() < fewest_of_a_group ? pooled : moments_of_samples(samples);
        population.groups.push_back({.weight = weight / whole,
                                     .distances = spread_distances(samples, weight),
                                     .profile = moments.mean,
                                     .covariance = moments.covariance});
    }
    return population;
}

}  // namespace mobalab::experiments
