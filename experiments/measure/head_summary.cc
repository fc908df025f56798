#include "experiments/measure/head_summary.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "experiments/measure/routed_chance.h"
#include "experiments/measure/router.h"
#include "experiments/measure/score_rows.h"

namespace mobalab::experiments {
namespace {

constexpr double none = std::numeric_limits<double>::quiet_NaN();

/// Own mass is one less the mass of the past, which is rounded to 6e-8: of less than this it is not known to four
/// digits.
constexpr double least_attended_mass = 1e-3;

/// Neighbouring rows resemble each other for longer than a small block is.
constexpr std::int64_t fewest_positions_a_cluster = 128;

double ratio_of(const DistanceSums& distances) {
    double explained = 0.0;
    double whole = 0.0;
    for (std::size_t i = 0; i < distances.count.size(); ++i) {
        const auto count = static_cast<double>(distances.count[i]);
        whole += count;  // standardised: the squares of a row sum to its candidates
        explained += count > 0.0 ? distances.sum[i] * distances.sum[i] / count : 0.0;
    }
    return explained / whole;
}

std::vector<double> squared_lengths(const HeadRows& rows) {
    const std::vector<float> values = rows.to_float();
    std::vector<double> squares(static_cast<std::size_t>(rows.rows));
    for (std::size_t i = 0; i < values.size(); ++i) {
        const double value = values[i];
        squares[i / static_cast<std::size_t>(rows.head_dim)] += value * value;
    }
    return squares;
}

void set(MeasuredSetting& row, Quantity quantity, double value) {
    row.values[static_cast<std::size_t>(quantity)] = value;
}

void set(MeasuredSetting& row, MeasuredCount count, double value) {
    row.counts[static_cast<std::size_t>(count)] = static_cast<std::int64_t>(std::llround(value));
}

/// A quantity and the two ends of its interval, which follow it in the list; all NaN where no row qualifies.
void set(MeasuredSetting& row, Quantity quantity, const analysis::Interval& interval) {
    const auto at = static_cast<std::size_t>(quantity);
    const bool known = !std::isnan(interval.value);
    row.values[at] = interval.value;
    row.values[at + 1] = known ? interval.low : none;
    row.values[at + 2] = known ? interval.high : none;
}

}  // namespace

void ClusterTotals::add(std::int64_t position, double value, double weight) {
    if (position / positions_ != current_) {
        current_ = position / positions_;
        clusters_.emplace_back();
    }
    clusters_.back().sum += value;
    clusters_.back().weight += weight;
}

double ClusterTotals::weight() const {
    double sum = 0.0;
    for (const analysis::ClusterTotal& cluster : clusters_) {
        sum += cluster.weight;
    }
    return sum;
}

void Moments::add(double value, double square) {
    if (!std::isnan(value)) {
        count += 1.0;
        sum += value;
        squares += square;
    }
}

double Moments::deviation() const {
    const double variance = squares / count - mean() * mean();
    return variance < 0.0 ? 0.0 : std::sqrt(variance);  // NaN stays NaN
}

HeadSummary::SettingSums::SettingSums(std::int64_t block_size)
    : recall(std::max(block_size, fewest_positions_a_cluster)),
      recall_no0(recall),
      lost(recall),
      needle(recall),
      distant(recall),
      fact(recall),
      output(recall),
      rounding(recall) {}

HeadSummary::HeadSummary(std::span<const RouteSetting> settings, std::vector<FactPair> facts, const KeyStatistics& keys)
    : settings_(settings.begin(), settings.end()), facts_(std::move(facts)), keys_(keys) {
    std::sort(facts_.begin(), facts_.end());
    for (const RouteSetting& setting : settings_) {
        sums_.emplace_back(setting.score.block_size);
    }
}

void HeadSummary::add(const HeadTensors& stretch, const HeadOutcomes& outcomes) {
    for (std::size_t i = 0; i < settings_.size(); ++i) {
        add_setting(outcomes, i);
    }
    for (const auto& [score, of_score] : outcomes.scores) {
        add_scores(stretch, score, of_score);
    }
}

void HeadSummary::add_setting(const HeadOutcomes& outcomes, std::size_t setting) {
    for (std::size_t row = 0; row < static_cast<std::size_t>(outcomes.rows); ++row) {
        const std::int64_t position = outcomes.q_start + static_cast<std::int64_t>(row);
        if (position >= settings_[setting].score.block_size) {
            add_row(outcomes, setting, row);
        }
    }
}

void HeadSummary::add_row(const HeadOutcomes& outcomes, std::size_t setting, std::size_t row) {
    const RouteSetting& asked = settings_[setting];
    const RowOutcomes& of_setting = outcomes.settings[setting];
    const BlockOutcomes& blocks = outcomes.blocks.at(asked.score.block_size);
    SettingSums& sums = sums_[setting];
    const std::int64_t position = outcomes.q_start + static_cast<std::int64_t>(row);
    const std::int64_t candidates = position / asked.score.block_size;
    const Router& router = *find_router(asked.score.router);
    const RoutedRow routed(asked, router.by_chance(), outcomes, of_setting, row);

    const double past = blocks.past_mass[row];
    const double past_no0 = blocks.past_mass_no0[row];
    if (past > 0.0) {
        sums.recall.add(position, std::min(1.0, routed.mass() / past));
    }
    if (past_no0 > 0.0) {
        sums.recall_no0.add(position, std::min(1.0, routed.mass_no0() / past_no0));
    }
    sums.lost.add(position, std::max(0.0, past - routed.mass()));
    const std::int32_t needle_key = blocks.needle_key[row];
    const std::int64_t needle = needle_key < 0 ? -1 : needle_key / asked.score.block_size;
    if (needle >= 0) {
        sums.needle.add(position, routed.chance(needle));
    }
    if (const std::int32_t key = outcomes.distant_key[row]; key >= 0 && key / asked.score.block_size < candidates) {
        sums.distant.add(position, routed.chance(key / asked.score.block_size));
    }
    for (auto fact = std::lower_bound(facts_.begin(), facts_.end(), FactPair{position, 0});
         fact != facts_.end() && fact->query == position; ++fact) {
        if (fact->key / asked.score.block_size < candidates) {
            sums.fact.add(position, routed.chance(fact->key / asked.score.block_size));
        }
    }
    if (!of_setting.output_error.empty()) {
        sums.output.add(position, of_setting.output_error[row], outcomes.dense_norm[row]);
    }
    if (!of_setting.rounding_changed.empty()) {
        sums.rounding.add(position, of_setting.rounding_changed[row]);
    }
    if (!of_setting.margin.empty()) {
        sums.margin.add(of_setting.margin[row]);
    }

    // Of what the kernel routed, by the seed's draws too.
    const double own = std::max(0.0, 1.0 - past);
    const double attended = own + of_setting.routed_mass[row];
    sums.own.add(attended < least_attended_mass ? none : own / attended);
    const auto kept =
        std::span(of_setting.selection)
            .subspan(row * static_cast<std::size_t>(of_setting.slots), static_cast<std::size_t>(of_setting.slots));
    const auto count = std::count_if(kept.begin(), kept.end(), [](std::int32_t block) { return block >= 0; });
    const auto latest = std::count_if(kept.begin(), kept.end(), [&](std::int32_t block) {
        return block >= 0 && block >= candidates - (asked.topk - 1);
    });
    sums.window.add(static_cast<double>(latest) / static_cast<double>(count));
    sums.sink.add(std::find(kept.begin(), kept.end(), 0) != kept.end() ? 1.0 : 0.0);
    if (!router.by_chance()) {
        add_row_of_blocks(sums.distances, kept, needle, candidates);
    }
}

void HeadSummary::add_scores(const HeadTensors& stretch, const ScoreSetting& score, const ScoreOutcomes& outcomes) {
    ScoreSums& sums = scores_[score];
    const bool of_keys = find_router(score.router)->scorer.has_value();  // scores in units of q.k
    const std::vector<double> lengths = squared_lengths(stretch.q);
    const double unit = keys_.variance / static_cast<double>(stretch.q.head_dim * score.block_size);
    for (std::size_t row = 0; row < outcomes.deviation.size(); ++row) {
        sums.needle.add(outcomes.needle_score[row]);
        sums.mass.add(outcomes.mass_score[row], outcomes.mass_score_squared[row]);
        if (of_keys) {
            const double deviation = outcomes.deviation[row];
            sums.noise.add(deviation * deviation / (lengths[row] * unit));
        }
    }
    add_distances(outcomes.distances, sums.distances);
}

std::vector<MeasuredSetting> HeadSummary::settings(double confidence) const {
    std::vector<MeasuredSetting> all;
    for (std::size_t i = 0; i < settings_.size(); ++i) {
        all.push_back(setting(i, confidence));
    }
    return all;
}

MeasuredSetting HeadSummary::setting(std::size_t setting, double confidence) const {
    const double alpha = 1.0 - confidence;
    const SettingSums& sums = sums_[setting];
    MeasuredSetting row;
    row.values.fill(none);
    row.distances = sums.distances;
    set(row, MeasuredCount::rows, sums.lost.weight());
    set(row, MeasuredCount::query_blocks, static_cast<double>(sums.lost.clusters().size()));
    set(row, MeasuredCount::needle_rows, sums.needle.weight());
    set(row, MeasuredCount::distant_rows, sums.distant.weight());
    set(row, MeasuredCount::fact_pairs, sums.fact.weight());

    const std::pair<Quantity, const ClusterTotals*> means[] = {{Quantity::mass_recall, &sums.recall},
                                                               {Quantity::mass_recall_no0, &sums.recall_no0},
                                                               {Quantity::lost_mass, &sums.lost}};
    for (const auto& [quantity, totals] : means) {
        set(row, quantity, analysis::clustered_mean(totals->clusters(), alpha));
    }
    const std::pair<Quantity, const ClusterTotals*> shares[] = {{Quantity::needle_hit, &sums.needle},
                                                                {Quantity::distant_hit, &sums.distant},
                                                                {Quantity::fact_hit, &sums.fact},
                                                                {Quantity::rounding_changed, &sums.rounding}};
    for (const auto& [quantity, totals] : shares) {
        set(row, quantity, analysis::clustered_share(totals->clusters(), alpha));
    }
    const analysis::Interval squared = analysis::clustered_ratio(sums.output.clusters(), alpha);
    set(row, Quantity::output_error,
        analysis::Interval{std::sqrt(squared.low), std::sqrt(squared.value), std::sqrt(squared.high)});

    set(row, Quantity::margin, sums.margin.mean());
    set(row, Quantity::own_share, sums.own.mean());
    set(row, Quantity::window_share, sums.window.mean());
    set(row, Quantity::sink_share, sums.sink.mean());
    if (const auto found = scores_.find(settings_[setting].score); found != scores_.end()) {
        const ScoreSums& score = found->second;
        set(row, Quantity::distance_r2, ratio_of(score.distances));
        set(row, Quantity::needle_a, score.needle.mean());
        set(row, Quantity::needle_r, score.needle.deviation());
        set(row, Quantity::mass_a, score.mass.mean());
        set(row, Quantity::mass_r, score.mass.deviation());
        set(row, Quantity::noise_variance_db, score.noise.mean());
    }
    set(row, Quantity::shared_mean, keys_.shared_mean);
    set(row, Quantity::effective_dimension, keys_.effective_dimension);
    for (std::size_t i = 0; i < key_lags.size(); ++i) {
        const auto first = static_cast<std::size_t>(Quantity::key_cosine_1);
        row.values[first + i] = keys_.cosine[i];
    }
    return row;
}

}  // namespace mobalab::experiments
