#include "experiments/trained/trained_prediction.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include "analysis/cluster_interval.h"
#include "analysis/measured_scores/candidate_rows.h"
#include "analysis/measured_scores/sample_standardised.h"
#include "analysis/measured_scores/several_heads.h"
#include "experiments/base/interrupt.h"

namespace mobalab::experiments {
namespace {

using analysis::CandidateRows;
using analysis::ClusterTotal;
using analysis::Interval;
using analysis::StandardisedSignal;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

double ratio(std::int64_t part, std::int64_t whole) {
    return static_cast<double>(part) / static_cast<double>(whole);  // NaN of none
}

/// NaN where the part was not recorded.
double share_or_nan(std::int64_t part, std::int64_t whole) {
    return part < 0 ? nan : ratio(part, whole);
}

std::vector<ClusterTotal> clusters_of(const std::vector<std::int64_t>& parts, const std::vector<std::int64_t>& wholes) {
    std::vector<ClusterTotal> clusters(parts.size());
    std::ranges::transform(parts, wholes, clusters.begin(), [](std::int64_t part, std::int64_t whole) {
        return ClusterTotal{static_cast<double>(part), static_cast<double>(whole)};
    });
    return clusters;
}

Interval share_by_sequence(const std::vector<std::int64_t>& parts, const std::vector<std::int64_t>& wholes,
                           double confidence) {
    return analysis::clustered_share(clusters_of(parts, wholes), 1.0 - confidence);
}

bool is_random(const TrainedRun& run) {
    return run.scorer == "random";
}

std::vector<CandidateRows> rows_of(const HeadRecord& head) {
    std::vector<CandidateRows> rows;
    for (const auto& [candidates, count] : head.candidates) {
        rows.push_back({candidates, static_cast<double>(count)});
    }
    return rows;
}

double mean_over_queries(const HeadRecord& head, const std::function<double(std::int64_t)>& value) {
    return analysis::mean_over_rows(rows_of(head), value);
}

/// A head for which theory knows the hit probability.
struct HeadLaw {
    const TrainedRun* run;
    const HeadRecord* record;
    StandardisedSignal signal;  ///< not of scorer random

    double hit(std::int64_t candidates) const {
        const std::int64_t slots = run->topk - 1;
        return is_random(*run) ? std::min(1.0, ratio(slots, candidates))
                               : analysis::hit_of_standardised(signal, candidates, slots);
    }
};

std::optional<HeadLaw> law_of(const TrainedRun& run, const HeadRecord& head) {
    if (head.queries == 0) {
        return {};
    }
    if (is_random(run)) {
        return HeadLaw{&run, &head, {}};
    }
    const double mean = head.statistic("signal_mean");
    const double sd = head.statistic("signal_sd");
    const bool has_moments = head.candidates.begin()->first >= analysis::least_standardised_candidates;
    if (std::isnan(mean) || std::isnan(sd) || !has_moments) {
        return {};
    }
    return HeadLaw{&run, &head, analysis::signal_of_sample(mean, sd, rows_of(head))};
}

double mean_hit(const HeadLaw& law) {
    return mean_over_queries(*law.record, [&](std::int64_t candidates) { return law.hit(candidates); });
}

double uncorrected_hit(HeadLaw law) {
    law.signal = {.a = law.record->statistic("signal_mean"), .r = law.record->statistic("signal_sd")};
    return mean_hit(law);
}

HeadOutcome outcome_of(const TrainedRun& run, const HeadRecord& head, double confidence) {
    const std::optional<HeadLaw> law = law_of(run, head);
    return {&run, &head, share_by_sequence(head.sequence_hits, head.sequence_queries, confidence),
            law ? mean_hit(*law) : nan, law && !is_random(run) ? uncorrected_hit(*law) : nan};
}

/// Heads of one run, variant and length; they were asked the same queries.
using Heads = std::vector<const HeadRecord*>;
using Laws = std::vector<HeadLaw>;

/// Of all heads; empty where one has none.
Laws laws_of(const TrainedRun& run, const Heads& heads) {
    Laws laws;
    for (const HeadRecord* head : heads) {
        if (const std::optional<HeadLaw> law = law_of(run, *head)) {
            laws.push_back(*law);
        }
    }
    return laws.size() == heads.size() ? laws : Laws{};
}

double predicted_any_hit(const Laws& laws) {
    return mean_over_queries(*laws.front().record, [&](std::int64_t candidates) {
        std::vector<double> hits(laws.size());
        std::ranges::transform(laws, hits.begin(), [&](const HeadLaw& law) { return law.hit(candidates); });
        return analysis::any_hit_of_independent(hits);
    });
}

/// Correlation of S from that of z: standardising by the own rivals adds spread that heads do not share. Sampling lets
/// the estimate of a correlation leave [0, 1].
double correlation_of_signals(const Laws& laws, double correlation_of_z) {
    const double inverse_sd = mean_over_queries(
        *laws.front().record, [](std::int64_t candidates) { return analysis::mean_inverse_sd(candidates - 1); });
    double shared = 0.0;
    for (const HeadLaw& law : laws) {
        shared += law.signal.r * inverse_sd / law.record->statistic("signal_sd") / static_cast<double>(laws.size());
    }
    return shared > 0.0 ? std::clamp(correlation_of_z / (shared * shared), 0.0, 1.0) : 0.0;
}

double correlated_any_hit(const TrainedRun& run, const Laws& laws, double correlation_of_z) {
    if (std::isnan(correlation_of_z) || is_random(run)) {
        return nan;
    }
    std::vector<StandardisedSignal> signals(laws.size());
    std::ranges::transform(laws, signals.begin(), &HeadLaw::signal);
    const double correlation = correlation_of_signals(laws, correlation_of_z);
    return mean_over_queries(*laws.front().record, [&](std::int64_t candidates) {
        stop_if_interrupted();
        return analysis::any_hit_of_standardised(signals, correlation, candidates, run.topk - 1);
    });
}

/// The heads of the layer whose signal has the largest mean: the others retrieve little, and their scores are least
/// like the law's (a spread of the signal well above 1 means few clusters of queries, not a normal law).
Laws retrieval_layer(const Laws& laws) {
    std::map<std::int64_t, Laws> layers;
    for (const HeadLaw& law : laws) {
        layers[law.record->layer].push_back(law);
    }
    const auto mean_signal = [](const Laws& layer) {
        double sum = 0.0;
        for (const HeadLaw& law : layer) {
            sum += law.signal.a;
        }
        return sum / static_cast<double>(layer.size());
    };
    return std::ranges::max_element(layers, {}, [&](const auto& layer) { return mean_signal(layer.second); })->second;
}

/// Of heads that are independent where the correlation is not known.
double any_hit_of_layer(const TrainedRun& run, const Laws& layer, double correlation_of_z) {
    const double correlated = correlated_any_hit(run, layer, correlation_of_z);
    return std::isnan(correlated) ? predicted_any_hit(layer) : correlated;
}

double independent_any_hit(const Heads& heads) {
    std::vector<double> hits(heads.size());
    std::ranges::transform(heads, hits.begin(),
                           [](const HeadRecord* head) { return ratio(head->hits, head->queries); });
    return analysis::any_hit_of_independent(hits);
}

double accuracy_of(double own_share, double any_hit) {
    return std::isnan(any_hit) ? nan : analysis::accuracy_of_any_hit(own_share, any_hit);
}

Interval measured_any_hit(const AccuracyRecord& record, double confidence) {
    const std::int64_t far = record.asked - record.own_block;
    if (record.sequence_any_hit.empty()) {
        return {nan, ratio(record.any_hit, far), nan};
    }
    std::vector<std::int64_t> far_of_sequence;
    for (const std::int64_t own : record.sequence_own_block) {
        far_of_sequence.push_back(record.asked / record.sequences - own);
    }
    return share_by_sequence(record.sequence_any_hit, far_of_sequence, confidence);
}

AccuracyOutcome outcome_of(const TrainedRun& run, const AccuracyRecord& record, const Heads& heads, double confidence) {
    const std::vector<std::int64_t> asked(record.sequence_correct.size(), record.asked / record.sequences);
    AccuracyOutcome outcome{.run = &run,
                            .record = &record,
                            .accuracy = share_by_sequence(record.sequence_correct, asked, confidence),
                            .own_share = ratio(record.own_block, record.asked),
                            .any_hit = {nan, nan, nan},
                            .found_share = nan,
                            .read_out = nan,
                            .answered_unrouted = nan,
                            .independent_any_hit = nan,
                            .predicted_any_hit = nan,
                            .predicted_any_hit_correlated = nan,
                            .predicted_accuracy = nan,
                            .predicted_accuracy_correlated = nan,
                            .predicted_accuracy_retrieval_layer = nan};
    const bool heads_apart = !record.variant.empty() && record.sequence_any_hit.empty();
    if (!run.is_moba() || heads_apart) {
        return outcome;
    }
    const std::int64_t far = record.asked - record.own_block;
    const bool all_own = far == 0;
    outcome.read_out = share_or_nan(record.any_hit_correct, record.any_hit);
    outcome.answered_unrouted = share_or_nan(record.no_hit_correct, far - record.any_hit);
    outcome.any_hit = measured_any_hit(record, confidence);
    outcome.found_share = all_own ? 1.0 : accuracy_of(outcome.own_share, outcome.any_hit.value);
    if (!heads.empty() && heads.front()->queries > 0) {
        outcome.independent_any_hit = independent_any_hit(heads);
    }
    const Laws laws = laws_of(run, heads);
    if (laws.empty()) {
        return outcome;
    }
    outcome.predicted_any_hit = predicted_any_hit(laws);
    outcome.predicted_any_hit_correlated = correlated_any_hit(run, laws, record.signal_correlation);
    outcome.predicted_accuracy = accuracy_of(outcome.own_share, outcome.predicted_any_hit);
    outcome.predicted_accuracy_correlated = accuracy_of(outcome.own_share, outcome.predicted_any_hit_correlated);
    outcome.predicted_accuracy_retrieval_layer =
        accuracy_of(outcome.own_share, any_hit_of_layer(run, retrieval_layer(laws), record.signal_correlation));
    return outcome;
}

}  // namespace

TrainedOutcomes outcomes_of(const TrainingRecords& records, double confidence, const OutcomeProgress& progress) {
    TrainedOutcomes outcomes;
    std::map<std::string, const TrainedRun*> runs;
    for (const TrainedRun& run : records.runs) {
        runs[run.name] = &run;
    }
    const double pieces = static_cast<double>(records.heads.size() + records.accuracies.size());
    const auto begin_piece = [&](const std::string& run) {
        stop_if_interrupted();
        progress(static_cast<double>(outcomes.heads.size() + outcomes.accuracies.size()) / pieces, "run " + run);
    };
    std::map<std::tuple<std::string, std::string, std::int64_t>, Heads> heads;
    for (const HeadRecord& head : records.heads) {
        begin_piece(head.run);
        outcomes.heads.push_back(outcome_of(*runs.at(head.run), head, confidence));
        heads[{head.run, head.variant, head.seq_len}].push_back(&head);
    }
    for (const AccuracyRecord& record : records.accuracies) {
        begin_piece(record.run);
        outcomes.accuracies.push_back(
            outcome_of(*runs.at(record.run), record, heads[{record.run, record.variant, record.seq_len}], confidence));
    }
    return outcomes;
}

}  // namespace mobalab::experiments
