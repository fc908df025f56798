#include "experiments/measure/score_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace mobalab::experiments {
namespace {

constexpr std::size_t fewest_candidates = 3;  // so that two others have a spread

/// Scores of one row, centred on their mean so that sums of squares keep their digits.
class RowScores {
public:
    explicit RowScores(std::span<const double> scores)
        : scores_(scores),
          count_(static_cast<double>(scores.size())),
          mean_(std::accumulate(scores.begin(), scores.end(), 0.0) / count_) {
        for (const double score : scores) {
            squares_ += (score - mean_) * (score - mean_);
        }
    }

    double deviation() const { return std::sqrt(squares_ / count_); }
    double standardised(std::size_t j) const { return (scores_[j] - mean_) / deviation(); }

    /// Against the candidates other than j; NaN where those have a spread of 0.
    double against_others(std::size_t j) const {
        const double difference = scores_[j] - mean_;
        const double others_mean = -difference / (count_ - 1.0);  // less the mean of all
        const double others_squares = squares_ - difference * difference - (count_ - 1.0) * others_mean * others_mean;
        const double variance = others_squares / (count_ - 1.0);
        constexpr double rounding = 1e-13;  // what the differences above leave of a spread of 0
        return variance > rounding * squares_ / count_ ? (difference - others_mean) / std::sqrt(variance)
                                                       : std::numeric_limits<double>::quiet_NaN();
    }

private:
    std::span<const double> scores_;
    double count_;
    double mean_;
    double squares_ = 0.0;  ///< about the mean
};

void add_distances_of_row(const RowScores& scores, std::size_t candidates, DistanceSums& distances) {
    if (distances.count.size() < candidates + 1) {
        distances.count.resize(candidates + 1);
        distances.sum.resize(candidates + 1);
    }
    for (std::size_t j = 0; j < candidates; ++j) {
        distances.count[candidates - j] += 1;
        distances.sum[candidates - j] += scores.standardised(j);
    }
}

}  // namespace

ScoreOutcomes empty_score_outcomes(std::int64_t rows) {
    const std::vector<float> none(static_cast<std::size_t>(rows), std::numeric_limits<float>::quiet_NaN());
    return {.deviation = none, .needle_score = none, .mass_score = none, .mass_score_squared = none, .distances = {}};
}

void add_score_row(std::span<const double> scores, std::span<const double> masses, std::int64_t needle_block,
                   std::size_t row, ScoreOutcomes& outcomes, DistanceSums& distances) {
    if (scores.size() < fewest_candidates) {
        return;
    }
    const RowScores of_row(scores);
    if (!(of_row.deviation() > 0.0)) {
        return;
    }
    outcomes.deviation[row] = static_cast<float>(of_row.deviation());
    if (needle_block >= 0) {
        outcomes.needle_score[row] = static_cast<float>(of_row.against_others(static_cast<std::size_t>(needle_block)));
    }
    double mass = 0.0;
    double first = 0.0;
    double second = 0.0;
    for (std::size_t j = 0; j < scores.size(); ++j) {
        const double z = of_row.against_others(j);
        if (!std::isnan(z)) {
            mass += masses[j];
            first += masses[j] * z;
            second += masses[j] * z * z;
        }
    }
    if (mass > 0.0) {
        outcomes.mass_score[row] = static_cast<float>(first / mass);
        outcomes.mass_score_squared[row] = static_cast<float>(second / mass);
    }
    add_distances_of_row(of_row, scores.size(), distances);
}

void add_distances(const DistanceSums& more, DistanceSums& sum) {
    const std::size_t size = std::max(sum.count.size(), more.count.size());
    sum.count.resize(size);
    sum.sum.resize(size);
    for (std::size_t i = 0; i < more.count.size(); ++i) {
        sum.count[i] += more.count[i];
        sum.sum[i] += more.sum[i];
    }
}

}  // namespace mobalab::experiments
