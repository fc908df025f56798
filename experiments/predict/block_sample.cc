#include "experiments/predict/block_sample.h"

#include <cmath>

#include "experiments/predict/row_scores.h"

namespace mobalab::experiments {
namespace {

constexpr double negligible_share = 1e-9;

/// Standardised scores of the row's candidates; empty where they are too few or do not differ.
std::vector<double> candidate_scores(const RowScores& row, std::int64_t block_size) {
    std::vector<double> scores(static_cast<std::size_t>(row.position / block_size), 0.0);
    if (scores.size() < 3) return {};
    const auto size = static_cast<std::size_t>(block_size);
    double sum = 0.0;
    double squares = 0.0;
    for (std::size_t j = 0; j < scores.size(); ++j) {
        for (std::size_t i = j * size; i < (j + 1) * size; ++i) scores[j] += row.x[i] / static_cast<double>(size);
        sum += scores[j];
    }
    const double mean = sum / static_cast<double>(scores.size());
    for (const double score : scores) squares += (score - mean) * (score - mean);
    const double deviation = std::sqrt(squares / static_cast<double>(scores.size()));
    if (!(deviation > 0.0)) return {};
    for (double& score : scores) score = (score - mean) / deviation;
    return scores;
}

struct Moments {
    double mean;
    double deviation;
};

Moments moments_of(const std::vector<analysis::WeightedScore>& sample) {
    double weight = 0.0;
    double sum = 0.0;
    for (const auto& value : sample) {
        weight += value.weight;
        sum += value.weight * value.score;
    }
    double squares = 0.0;
    for (const auto& value : sample)
        squares += value.weight * (value.score - sum / weight) * (value.score - sum / weight);
    return {sum / weight, std::sqrt(squares / weight)};
}

}  // namespace

BlockSample block_sample(const HeadScores& scores, std::int64_t block_size, bool by_mass) {
    BlockSample sample;
    RowScores row;
    for (std::size_t r = 0; r < scores.positions.size(); ++r) {
        if (!read_row(scores, r, row)) continue;
        const std::vector<double> x = candidate_scores(row, block_size);
        if (x.empty()) continue;
        const auto candidates = static_cast<std::int64_t>(x.size());
        const double past = row.mass_before[static_cast<std::size_t>(candidates * block_size)];
        const std::int64_t needle = row.highest[static_cast<std::size_t>((candidates - 2) * block_size)];
        if (by_mass ? !(past > 0.0) : needle < 0) continue;
        for (std::int64_t j = 0; j < candidates; ++j) {
            const auto first = static_cast<std::size_t>(j * block_size);
            const double mass = row.mass_before[first + static_cast<std::size_t>(block_size)] - row.mass_before[first];
            const double share = by_mass ? mass / past : (needle / block_size == j ? 1.0 : 0.0);
            const double score = x[static_cast<std::size_t>(j)];
            if (share > negligible_share) sample.targets.push_back({score, share});
            if (share < 1.0) sample.rivals.push_back({score, 1.0 - share});
        }
    }
    return sample;
}

analysis::StandardisedSignal standardised(const BlockSample& sample) {
    const Moments s = moments_of(sample.targets);
    const Moments x = moments_of(sample.rivals);
    return {(s.mean - x.mean) / x.deviation, s.deviation / x.deviation};
}

}  // namespace mobalab::experiments
