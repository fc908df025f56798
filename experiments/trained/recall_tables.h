#pragma once

#include "experiments/results/results_file.h"
#include "experiments/trained/trained_prediction.h"

namespace mobalab::experiments {

/// Table `training`, a row for each run, variant and length with answers: measured and predicted accuracy.
Table training_table(const TrainedOutcomes& outcomes);

/// Table `training_heads`, a row for each record of a head: measured and predicted hits, and the statistics.
Table training_heads_table(const TrainedOutcomes& outcomes);

/// Table `training_profiles`, a row for each offset from the asked pair of each record of a head that has a profile.
Table training_profiles_table(const TrainedOutcomes& outcomes);

}  // namespace mobalab::experiments
