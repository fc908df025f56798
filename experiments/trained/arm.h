#pragma once

#include <string>
#include <vector>

#include "experiments/trained/training_records.h"

namespace mobalab::experiments {

/// What a run tries, in words, without its seed: "dense d 64", "moba B 32 k 8 d 64 quest conv 3". The scorer mean and
/// no convolution are plain and not said.
std::string arm_of(const TrainedRun& run);

/// The runs of each arm, arms and runs in the order of the records. Throws FileError where runs of one arm differ in
/// what else makes a model (heads, layers, width): a mean over them would be of nothing.
std::vector<std::vector<const TrainedRun*>> runs_by_arm(const TrainingRecords& records);

}  // namespace mobalab::experiments
