#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "analysis/cluster_interval.h"
#include "experiments/measure/block_distance.h"
#include "experiments/measure/head_outcomes.h"
#include "experiments/measure/head_tensors.h"
#include "experiments/measure/key_statistics.h"
#include "experiments/measure/quantities.h"

namespace mobalab::experiments {

/// A query and the key that it should find, as positions.
struct FactPair {
    std::int64_t query;
    std::int64_t key;
    friend auto operator<=>(const FactPair&, const FactPair&) = default;
};

/// One setting on one head: the numbers of a row of the table `measure` (NaN: no row qualifies) and, of a router that
/// does not route by chance, where its blocks lie.
struct MeasuredSetting {
    std::array<std::int64_t, measured_counts> counts = {};
    std::array<double, quantities> values = {};
    DistanceHistogram distances = {};
};

/// Totals of rows in order of their positions, by query block.
class ClusterTotals {
public:
    explicit ClusterTotals(std::int64_t positions) : positions_(positions) {}
    void add(std::int64_t position, double value, double weight = 1.0);
    const std::vector<analysis::ClusterTotal>& clusters() const { return clusters_; }
    double weight() const;

private:
    std::int64_t positions_;  ///< of a cluster
    std::int64_t current_ = -1;
    std::vector<analysis::ClusterTotal> clusters_;
};

/// Mean and spread of what is not NaN.
struct Moments {
    double count = 0.0;
    double sum = 0.0;
    double squares = 0.0;
    void add(double value) { add(value, value * value); }
    void add(double value, double square);
    double mean() const { return sum / count; }
    double deviation() const;  ///< population standard deviation
};

/// Adds up the outcomes of a head's rows, stretch by stretch in order of their positions.
class HeadSummary {
public:
    HeadSummary(std::span<const RouteSetting> settings, std::vector<FactPair> facts, const KeyStatistics& keys);

    void add(const HeadTensors& stretch, const HeadOutcomes& outcomes);

    /// In the order of the settings; intervals at this confidence.
    std::vector<MeasuredSetting> settings(double confidence) const;

private:
    struct SettingSums {
        explicit SettingSums(std::int64_t block_size);
        ClusterTotals recall, recall_no0, lost, needle, distant, fact, output, rounding;
        Moments margin, own, window, sink;
        DistanceHistogram distances;
    };
    struct ScoreSums {
        Moments needle, mass, noise;
        DistanceSums distances;
    };

    void add_setting(const HeadOutcomes& outcomes, std::size_t setting);
    void add_row(const HeadOutcomes& outcomes, std::size_t setting, std::size_t row);
    void add_scores(const HeadTensors& stretch, const ScoreSetting& score, const ScoreOutcomes& outcomes);
    MeasuredSetting setting(std::size_t setting, double confidence) const;

    std::vector<RouteSetting> settings_;
    std::vector<FactPair> facts_;  ///< sorted
    KeyStatistics keys_;
    std::vector<SettingSums> sums_;
    std::map<ScoreSetting, ScoreSums> scores_;
};

}  // namespace mobalab::experiments
