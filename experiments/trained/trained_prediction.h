#pragma once

#include <functional>
#include <string>
#include <vector>

#include "analysis/binomial_interval.h"
#include "experiments/trained/training_records.h"

namespace mobalab::experiments {

/// A head's hits beside what theory makes of its statistics. NaN: no queries, statistics that were not recorded, or
/// queries with fewer candidates than analysis::least_standardised_candidates.
struct HeadOutcome {
    const TrainedRun* run;
    const HeadRecord* record;
    analysis::Interval hit;  ///< the kernel's, clustered by sequences
    /// analysis::hit_of_standardised of the signal that signal_of_sample() makes of signal_mean and signal_sd, averaged
    /// over the queries' numbers of candidates; of scorer random min(1, (k - 1) / c), exactly.
    double predicted_hit;
    /// The same with signal_mean and signal_sd themselves for a and r: what standardising by few blocks does is left
    /// in.
    double uncorrected_hit;
};

/// Accuracy of a run at one length beside what the theory makes of its heads. Far: asked pairs not in the own block.
/// All predictions are NaN where a head of the run has none, and for attention that does not route; so is what heads
/// found together, also of variants whose answers and heads are evaluated one without the other (no counts by
/// sequence).
struct AccuracyOutcome {
    const TrainedRun* run;
    const AccuracyRecord* record;
    analysis::Interval accuracy;  ///< clustered by sequences
    double own_share;             ///< of the asked pairs
    analysis::Interval any_hit;   ///< share of far pairs that some head routed; ends NaN where no counts by sequence
    double found_share;           ///< own_share + (1 - own_share) any_hit: the most that routing lets answer
    double read_out;              ///< share of the pairs found by some head that are answered
    double answered_unrouted;     ///< share of far pairs found by no head that are answered all the same
    double independent_any_hit;   ///< 1 - prod(1 - hit) of the heads' measured hits
    double predicted_any_hit;     ///< 1 - prod(1 - hit) of predicted hits at equal candidates, all MoBA layers
    double predicted_any_hit_correlated;  ///< any_hit_of_standardised with the record's signal_correlation
    double predicted_accuracy;            ///< accuracy_of_any_hit of predicted_any_hit
    double predicted_accuracy_correlated;
    /// Of the heads of the layer whose signal has the largest mean, correlated as far as the record says.
    double predicted_accuracy_retrieval_layer;
};

struct TrainedOutcomes {
    std::vector<HeadOutcome> heads;           ///< in the order of the records
    std::vector<AccuracyOutcome> accuracies;  ///< likewise
};

/// The share of the work that is done, in [0, 1], and where it is.
using OutcomeProgress = std::function<void(double fraction, const std::string& text)>;

/// Intervals have this confidence. The outcomes point into the records. Throws Interrupted when a signal comes.
TrainedOutcomes outcomes_of(const TrainingRecords& records, double confidence, const OutcomeProgress& progress);

}  // namespace mobalab::experiments
