#pragma once

#include "experiments/results/results_file.h"
#include "experiments/trained/training_records.h"

namespace mobalab::experiments {

/// Table `training_runs`, a row a trained model: its sizes and what the training took.
Table training_runs_table(const TrainingRecords& records);

/// Table `training_curves`, a row a look at a model during training.
Table training_curves_table(const TrainingRecords& records);

}  // namespace mobalab::experiments
