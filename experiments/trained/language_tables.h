#pragma once

#include "experiments/results/results_file.h"
#include "experiments/trained/training_records.h"

namespace mobalab::experiments {

// Tables of language models; losses are in nats a token. An interval over sequences says how well the model's loss on
// such text is known, not how much another seed would differ: that is for the runs of an arm to show.

/// Table `training_validation`, a row a record of validation: the loss, and its difference from the dense runs' mean on
/// the same sequences.
Table training_validation_table(const TrainingRecords& records, double confidence);

/// Table `training_positions`, a row a range of positions.
Table training_positions_table(const TrainingRecords& records, double confidence);

/// Table `training_needles`, a row a depth.
Table training_needles_table(const TrainingRecords& records, double confidence);

}  // namespace mobalab::experiments
