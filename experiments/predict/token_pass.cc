#include "experiments/predict/token_pass.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <map>

#include "analysis/routing_point.h"
#include "experiments/predict/row_scores.h"
#include "experiments/predict/target_groups.h"

namespace mobalab::experiments {
namespace {

using analysis::offset_bins;
using analysis::TokenStatistics;
using analysis::trend_bins_per_octave;

constexpr std::size_t octaves = 31;
constexpr int draws_an_octave = 2;       // tokens drawn by mass in each row and octave of distance
constexpr double fewest_windows = 50.0;  // of an octave, for its variance to be known

/// Fills what is NaN by lines between the known neighbours, ends by the nearest; false where nothing is known.
bool fill_gaps(std::vector<double>& values) {
    std::vector<std::size_t> known;
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (!std::isnan(values[i])) known.push_back(i);
    }
    if (known.empty()) return false;
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (!std::isnan(values[i])) continue;
        const auto above = std::upper_bound(known.begin(), known.end(), i);
        if (above == known.begin()) {
            values[i] = values[known.front()];
        } else if (above == known.end()) {
            values[i] = values[known.back()];
        } else {
            const std::size_t low = *(above - 1);
            const double share = static_cast<double>(i - low) / static_cast<double>(*above - low);
            values[i] = values[low] + share * (values[*above] - values[low]);
        }
    }
    return true;
}

class Pass {
public:
    Pass(const HeadScores& scores, std::span<const std::int64_t> block_sizes)
        : scores_(scores), block_sizes_(block_sizes.begin(), block_sizes.end()), sums_(offset_bins + 1) {}

    TokenStatistics run() {
        find_trend();
        for (auto& of_length : sums_) of_length.resize(octaves);
        for (std::size_t row = 0; row < scores_.positions.size(); ++row) {
            if (!read_row(scores_, row, row_)) continue;
            find_residuals();
            add_windows();
            first_tokens_.push_back(first_tokens());
            add_needles();
            add_masses();
        }
        finish();
        return statistics_;
    }

private:
    struct Sum {
        double count = 0.0;
        double sum = 0.0;
    };

    void find_trend() {
        std::vector<Sum> bins(octaves * trend_bins_per_octave);
        std::vector<std::size_t> bin_of;
        for (std::size_t row = 0; row < scores_.positions.size(); ++row) {
            if (!read_row(scores_, row, row_)) continue;
            for (std::size_t d = bin_of.size(); d <= static_cast<std::size_t>(row_.position); ++d) {
                bin_of.push_back(
                    d == 0 ? 0 : static_cast<std::size_t>(std::log2(static_cast<double>(d)) * trend_bins_per_octave));
            }
            for (std::size_t i = 1; i < row_.x.size(); ++i) {
                Sum& bin = bins[bin_of[row_.x.size() - i]];
                bin.count += 1.0;
                bin.sum += row_.x[i];
            }
        }
        std::size_t last = 0;
        for (std::size_t b = 0; b < bins.size(); ++b) {
            if (bins[b].count > 0.0) last = b;
        }
        for (std::size_t b = 0; b <= last; ++b) {
            statistics_.trend.push_back(bins[b].count > 0.0 ? bins[b].sum / bins[b].count
                                                            : std::numeric_limits<double>::quiet_NaN());
        }
        if (!fill_gaps(statistics_.trend)) {
            throw analysis::InputError("no row of the head has scores that differ: nothing can be predicted from it");
        }
        for (std::size_t d = 0; d < bin_of.size(); ++d) {
            trend_.push_back(analysis::trend_at(statistics_.trend, static_cast<double>(d)));
        }
    }

    /// residual_before_[i]: x - trend added up over tokens 1 ... i - 1.
    void find_residuals() {
        const std::size_t keys = row_.x.size();
        residual_before_.assign(keys + 1, 0.0);
        for (std::size_t i = 1; i < keys; ++i) {
            residual_before_[i + 1] = residual_before_[i] + row_.x[i] - trend_[keys - i];
        }
    }

    double residual(std::int64_t from, std::int64_t to) const {  // mean over tokens from ... to
        const double sum =
            residual_before_[static_cast<std::size_t>(to + 1)] - residual_before_[static_cast<std::size_t>(from)];
        return sum / static_cast<double>(to - from + 1);
    }

    void add_windows() {
        for (int i = 0; i <= offset_bins; ++i) {
            const std::int64_t length = std::int64_t{1} << i;
            for (std::int64_t from = 1; from + length <= row_.position; ++from) {
                const auto twice_middle = static_cast<std::uint64_t>(2 * (row_.position - from) - (length - 1));
                const auto octave = static_cast<std::size_t>(std::bit_width(twice_middle)) - 2;
                const double mean = residual(from, from + length - 1);
                Sum& sum = sums_[static_cast<std::size_t>(i)][octave];
                sum.count += 1.0;
                sum.sum += mean * mean;
            }
        }
    }

    std::vector<double> first_tokens() const {
        std::vector<double> means(offset_bins + 1, std::numeric_limits<double>::quiet_NaN());
        means[0] = row_.x[0];
        for (int i = 1; i <= offset_bins; ++i) {
            const std::size_t from = std::size_t{1} << (i - 1);
            if (2 * from > row_.x.size()) break;
            double sum = 0.0;
            for (std::size_t t = from; t < 2 * from; ++t) sum += row_.x[t];
            means[static_cast<std::size_t>(i)] = sum / static_cast<double>(from);
        }
        return means;
    }

    std::vector<double> profile(std::int64_t key) const {
        std::vector<double> means(analysis::profile_size, std::numeric_limits<double>::quiet_NaN());
        means[0] = residual(key, key);
        for (int i = 1; i <= offset_bins; ++i) {
            const std::int64_t near = std::int64_t{1} << (i - 1);
            const std::int64_t far = 2 * near - 1;
            const auto at = static_cast<std::size_t>(i);
            if (key + far < row_.position) means[at] = residual(key + near, key + far);
            if (key - far >= 1) means[offset_bins + at] = residual(key - far, key - near);
        }
        return means;
    }

    void add_needles() {
        for (const std::int64_t size : block_sizes_) {
            const std::int64_t end = (row_.position / size - 2) * size;
            if (end <= 1) continue;
            const std::int64_t key = row_.highest[static_cast<std::size_t>(end)];
            needles_[size].add({1.0, static_cast<double>(row_.position - key), profile(key)});
        }
    }

    void add_masses() {
        for (const std::int64_t size : block_sizes_) {
            const double past = row_.mass_before[static_cast<std::size_t>(row_.position / size * size)];
            if (past > 0.0) masses_[size].add_first_token(row_.first_token_mass() / past);
        }
        for (std::size_t octave = 0; (std::int64_t{1} << octave) < row_.position; ++octave) {
            const std::int64_t from = std::max<std::int64_t>(1, row_.position - (std::int64_t{2} << octave) + 1);
            const std::int64_t end = row_.position - (std::int64_t{1} << octave) + 1;
            const double before = row_.mass_before[static_cast<std::size_t>(from)];
            const double mass = row_.mass_before[static_cast<std::size_t>(end)] - before;
            for (int i = 0; i < draws_an_octave && mass > 0.0; ++i) {
                const double share = (i + 0.5) / draws_an_octave;
                const auto first = row_.mass_before.begin() + from + 1;
                const auto last = row_.mass_before.begin() + end + 1;
                const auto found = std::lower_bound(first, last, before + share * mass);
                add_mass(std::min(end - 1, from + (found - first)), mass / draws_an_octave);
            }
        }
    }

    void add_mass(std::int64_t key, double mass) {
        const TargetSample sample{mass, static_cast<double>(row_.position - key), profile(key)};
        for (const std::int64_t size : block_sizes_) {
            const std::int64_t end = row_.position / size * size;
            const double past = row_.mass_before[static_cast<std::size_t>(end)];
            if (key < end && past > 0.0) {
                masses_[size].add({mass / past, sample.distance, sample.profile});
            }
        }
    }

    void finish() {
        for (const std::vector<Sum>& of_length : sums_) {
            std::vector<double> variances;
            for (const Sum& sum : of_length) {
                variances.push_back(sum.count >= fewest_windows ? sum.sum / sum.count
                                                                : std::numeric_limits<double>::quiet_NaN());
            }
            if (!fill_gaps(variances)) break;
            statistics_.window_variance.push_back(std::move(variances));
        }
        if (statistics_.window_variance.empty()) {
            throw analysis::InputError("the head has too few rows and keys: nothing can be predicted from it");
        }
        const ProfileMoments first = moments_of(first_tokens_, std::vector<double>(first_tokens_.size(), 1.0));
        statistics_.first_mean = first.mean;
        statistics_.first_covariance = first.covariance;
        for (const auto& [size, samples] : needles_) statistics_.needles[size] = samples.population();
        for (const auto& [size, samples] : masses_) statistics_.masses[size] = samples.population();
    }

    const HeadScores& scores_;
    std::vector<std::int64_t> block_sizes_;
    RowScores row_;
    std::vector<double> trend_;            // by distance
    std::vector<double> residual_before_;  // of the row
    std::vector<std::vector<Sum>> sums_;   // squares of window means, by log2 of the length and octave
    std::vector<std::vector<double>> first_tokens_;
    std::map<std::int64_t, TargetSamples> needles_, masses_;
    TokenStatistics statistics_;
};

}  // namespace

TokenStatistics token_statistics(const HeadScores& scores, std::span<const std::int64_t> block_sizes) {
    return Pass(scores, block_sizes).run();
}

}  // namespace mobalab::experiments
