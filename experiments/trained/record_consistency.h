#pragma once

#include "experiments/trained/training_records.h"

namespace mobalab::experiments {

/// What records say of each other: each belongs to a run whose attention can have it; every layer of which a run has
/// heads has all of them, the same layers at every length; heads of a run, variant and length were asked the same
/// queries. Throws FileError naming file, line and rule.
void require_consistent(const TrainingRecords& records);

}  // namespace mobalab::experiments
