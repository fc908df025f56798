#pragma once

#include <vector>

#include "experiments/results/results_file.h"
#include "experiments/trained/trained_prediction.h"

namespace mobalab::experiments {

/// Every table that the records have rows for, each with its confidence; training_runs always, and first of all
/// `training` where there are answers.
std::vector<Table> training_tables(const TrainingRecords& records, const TrainedOutcomes& outcomes, double confidence);

}  // namespace mobalab::experiments
