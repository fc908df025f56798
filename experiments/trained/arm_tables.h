#pragma once

#include "experiments/results/results_file.h"
#include "experiments/trained/trained_prediction.h"

namespace mobalab::experiments {

/// Table `training_arms`, a row for each arm, variant and length: means over its runs, which differ in their seed.
Table training_arms_table(const TrainingRecords& records, const TrainedOutcomes& outcomes, double confidence);

/// Table `training_errors`, a row for each arm (and "all" of them), quantity and choice of lengths: how far predictions
/// were off, of models as trained (no variant). Where nothing was both predicted and measured there is no row.
Table training_errors_table(const TrainingRecords& records, const TrainedOutcomes& outcomes, double confidence);

}  // namespace mobalab::experiments
