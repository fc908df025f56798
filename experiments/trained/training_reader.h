#pragma once

#include <string>
#include <vector>

#include "experiments/trained/training_records.h"

namespace mobalab::experiments {

/// The records of all files together: JSON lines, UTF-8, one object a line, every line ended. A run may be spread over
/// files; each has one record "run", anywhere in them.
///
/// Throws FileError "FILE: line N: ..." for the first thing wrong: no JSON, a field that is missing, unknown or outside
/// its rule, an unknown kind, a last line that was cut short, the same record twice, a record of a run that no record
/// "run" describes or that its attention cannot have, heads of one layer of which some lack, and heads that were not
/// asked the same queries. Throws Interrupted when a signal comes.
TrainingRecords read_training_records(const std::vector<std::string>& paths);

}  // namespace mobalab::experiments
